/* Random histories on the domain and on the model of the rules of replay, in memory only. */
#include "tests/thread/rules_play.h"

START_TEST(every_replay_is_as_the_rules_say)
{
    play_histories(20000, NULL);
}
END_TEST

static void setup(void)
{
    domain_open(&domain, rules_settings());
}

static void teardown(void)
{
    domain_close(&domain);
}

int main(void)
{
    return SUITE_RUN("rules", setup, teardown, 300, every_replay_is_as_the_rules_say);
}
