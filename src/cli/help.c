/* What the program says of itself: `help`, --help and the script for completion. */
#include "cli/help.h"

#include "cli/flags.h"
#include "cli/table.h"
#include "cli/texts.h"

#include <stdio.h>
#include <string.h>

/* "  --tool-calls ID, --tool-call" */
static char *written(const struct flag *flag)
{
    const char *before = flag->value == NULL ? "" : flag->value_optional ? "[=" : " ";
    const char *after = flag->value != NULL && flag->value_optional ? "]" : "";
    return cli_format("  --%s%s%s%s%s%s", flag->name, before,
                      flag->value != NULL ? flag->value : "", after,
                      flag->alias[0] != '\0' ? ", --" : "", flag->alias);
}

static char *explained(const struct flag *flag)
{
    const struct contract_option *option = flag->option;
    return cli_format("%s%s%s", flag->summary, flag->repeats ? " May be repeated." : "",
                      option != NULL && option->required ? " Required." : "");
}

static void print_flags(const struct flag *flags, size_t count, bool global)
{
    struct table *table = table_create("ll", NULL);
    for (size_t i = 0; i < count; i++)
        if (flags[i].global == global) {
            table_add(table, written(&flags[i]));
            table_add(table, explained(&flags[i]));
        }
    table_print(table, stdout);
    table_destroy(table);
}

void help_program(void)
{
    puts("Keeps and gives back the hidden reasoning of model calls, at a rethread server.\n"
         "\n"
         "Usage: rethread-cli [OPTION...] COMMAND [OPTION...]\n"
         "\n"
         "Commands:");
    struct table *table = table_create("ll", NULL);
    for (size_t i = 0; i < command_count; i++) {
        table_add(table, cli_format("  %s", command_rows[i].name));
        table_add(table, cli_text(command_rows[i].summary));
    }
    table_print(table, stdout);
    table_destroy(table);
    puts("\nOptions of every command:");
    struct flag flags[FLAGS_MAX];
    print_flags(flags, flags_of(NULL, flags), true);
    printf("\n%s", text_about);
}

void help_command(const struct command *command)
{
    struct flag flags[FLAGS_MAX];
    size_t count = flags_of(command, flags);
    bool has_own = count != 0 && !flags[0].global;
    printf("%s\n\nUsage: rethread-cli %s%s%s%s\n", command->summary, command->name,
           has_own ? " [OPTION...]" : "", command->operands[0] != '\0' ? " " : "",
           command->operands);
    if (has_own) {
        puts("\nOptions:");
        print_flags(flags, count, false);
    }
    puts("\nOptions of every command:");
    print_flags(flags, count, true);
    if (command->notes[0] != '\0')
        printf("\n%s", command->notes);
}

int command_run_help(struct invocation *invocation)
{
    if (invocation->operand_count == 0) {
        help_program();
        return EXIT_DONE;
    }
    const struct command *command = command_find(invocation->operands[0]);
    if (command == NULL || invocation->operand_count > 1) {
        report_line("there is no command '%s'; see rethread-cli help",
                    invocation->operands[command == NULL ? 0 : 1]);
        return EXIT_USAGE;
    }
    help_command(command);
    return EXIT_DONE;
}

static void print_words(const struct command *command)
{
    struct flag flags[FLAGS_MAX];
    size_t count = flags_of(command, flags);
    for (size_t i = 0; i < count; i++) {
        printf(" --%s", flags[i].name);
        if (flags[i].alias[0] != '\0')
            printf(" --%s", flags[i].alias);
    }
}

/* "a b c" of "a|b|c" */
static void print_choices(const char *choices)
{
    for (; *choices != '\0'; choices++)
        putchar(*choices == '|' ? ' ' : *choices);
}

/* Cases of the script for flags whose values are known. */
static void print_values(const struct command *command)
{
    struct flag flags[FLAGS_MAX];
    size_t count = flags_of(command, flags);
    for (size_t i = 0; i < count; i++)
        if (flags[i].choices != NULL) {
            printf("    '%s --%s') words='", command->name, flags[i].name);
            print_choices(flags[i].choices);
            puts("' ;;");
        }
}

int command_run_completion(struct invocation *invocation)
{
    if (invocation->operand_count != 1 || strcmp(invocation->operands[0], "bash") != 0) {
        report_line("say for which shell: only bash is known");
        return EXIT_USAGE;
    }
    fputs("_rethread_cli()\n"
          "{\n"
          "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
          "    local command= words i\n"
          "    [[ $word == = ]] && word=\n"
          "    [[ $before == = ]] && before=${COMP_WORDS[COMP_CWORD - 2]}\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        case ${COMP_WORDS[i]} in\n"
          "        ",
          stdout);
    for (size_t i = 0; i < command_count; i++)
        printf("%s%s", i != 0 ? " | " : "", command_rows[i].name);
    fputs(") command=${COMP_WORDS[i]} && break ;;\n"
          "        esac\n"
          "    done\n"
          "    case $command in\n",
          stdout);
    for (size_t i = 0; i < command_count; i++) {
        printf("    %s) words='", command_rows[i].name);
        print_words(&command_rows[i]);
        if (command_rows[i].id == COMMAND_COMPLETION)
            fputs(" bash", stdout);
        for (size_t j = 0; command_rows[i].id == COMMAND_HELP && j < command_count; j++)
            printf(" %s", command_rows[j].name);
        puts("' ;;");
    }
    fputs("    *) words='", stdout);
    print_words(NULL);
    for (size_t i = 0; i < command_count; i++)
        printf(" %s", command_rows[i].name);
    puts("' ;;\n"
         "    esac\n"
         "    case \"$command $before\" in");
    for (size_t i = 0; i < command_count; i++)
        print_values(&command_rows[i]);
    puts("    esac\n"
         "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
         "}\n"
         "complete -o default -F _rethread_cli rethread-cli");
    return EXIT_DONE;
}
