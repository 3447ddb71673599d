/*
 * The server's settings: from schema/settings.def, a --config file, the environment and flags.
 *
 * Each source overrides the one before: default < file < environment < flag. Within one source the
 * last value wins, but values of `listen` add up (one value may also hold several, separated by
 * commas or spaces); a later source replaces all of them. An empty value of `unix` or `profiles`
 * turns it off; `listen none` turns TCP off, alone in its source and only where there is a unix
 * socket.
 *
 * Environment. RETHREAD_<NAME> sets a setting, RETHREAD_CONFIG names the file. Any other variable
 * that starts with RETHREAD_ is refused, since it is most likely a misspelt setting, except those
 * that belong to others: names that start with RETHREAD_CLI, RETHREAD_CLIENT, RETHREAD_SERVER,
 * RETHREAD_TEST, RETHREAD_BENCH, RETHREAD_SAN, RETHREAD_ADDRESS or RETHREAD_DEMO, and what
 * Kubernetes sets for a service called rethread (RETHREAD_PORT…, and names with _SERVICE_HOST,
 * _SERVICE_PORT or _PORT_ in them).
 *
 * No global state. A struct settings owns all its text.
 */
#ifndef RETHREAD_SERVER_SETTINGS_H
#define RETHREAD_SERVER_SETTINGS_H

#include "base/log.h"
#include "net/address.h"
#include "store/store.h" /* enum store_compression */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { SETTINGS_ADDRESSES_MAX = 16, SETTINGS_PATH_BYTES = 108, SETTINGS_DIRECTORY_BYTES = 1024 };

struct settings_addresses {
    unsigned count;
    bool none; /* none are wanted */
    struct net_address list[SETTINGS_ADDRESSES_MAX];
};

struct settings_path {
    char text[SETTINGS_PATH_BYTES]; /* "": off */
};

struct settings_data {
    char directory[SETTINGS_DIRECTORY_BYTES]; /* "": memory only */
};

struct settings_file {
    char path[SETTINGS_DIRECTORY_BYTES]; /* "": none */
};

#define SETTINGS_TYPE_ADDRESSES   struct settings_addresses
#define SETTINGS_TYPE_PATH        struct settings_path
#define SETTINGS_TYPE_COUNT       uint64_t
#define SETTINGS_TYPE_SIZE        uint64_t
#define SETTINGS_TYPE_DURATION    uint64_t
#define SETTINGS_TYPE_DATA        struct settings_data
#define SETTINGS_TYPE_FILE        struct settings_file
#define SETTINGS_TYPE_COMPRESSION enum store_compression
#define SETTINGS_TYPE_LEVEL       enum log_level

struct settings {
#define SETTING(field, name, type, value, min, max, shape, text) SETTINGS_TYPE_##type field;
#include "schema/settings.def"
#undef SETTING
};

enum settings_action {
    SETTINGS_RUN,
    SETTINGS_HELP,
    SETTINGS_VERSION,
    SETTINGS_DESCRIBE,
    SETTINGS_CHECK, /* --check-config: say that the settings are sound, and what they are */
    SETTINGS_REFUSED,
};

struct settings_refusal {
    char text[1024]; /* one line: the setting, its source, what is wrong, what is allowed */
};

/*
 * `argv` as main has it, `environment` as environ. SETTINGS_REFUSED: *refusal says why, and
 * *settings is not to be used. --help, --version and --describe are taken before anything else is
 * looked at, and then *settings holds the defaults.
 */
enum settings_action settings_load(struct settings *settings, int argc, char *const *argv,
                                   char *const *environment, struct settings_refusal *refusal);

void settings_print_help(FILE *out);

/* One `name = VALUE` line each: what a --config file takes. */
void settings_print(FILE *out, const struct settings *settings);

#endif
