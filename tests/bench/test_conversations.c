/* The built-in conversations are as close to the file that they were fitted to as is said there. */
#include "bench/conversations.h"

#include "tests/lib/suite.h"

#include <stdlib.h>
#include <unistd.h>

static void check_share(const char *what, double is, double of, double within)
{
    ck_assert_msg(is >= of * (1 - within) && is <= of * (1 + within), "%s: %g for %g", what, is,
                  of);
}

/* What the file comes to, computed apart from this code. */
static const struct conversations_summary fitted_to = {.turns = 65.0148,
                                                       .thinking_share = 0.38347,
                                                       .step_bytes = 1977.4,
                                                       .replay_steps = 74.328,
                                                       .replay_bytes = 65611.8,
                                                       .replay_bytes_p90 = 214684};

static void check(const struct conversations *conversations, double mean_within, double p90_within)
{
    struct conversations_summary is;
    ck_assert(conversations_sum(conversations, &is));
    check_share("turns", is.turns, fitted_to.turns, mean_within);
    check_share("thinking", is.thinking_share, fitted_to.thinking_share, mean_within);
    check_share("step bytes", is.step_bytes, fitted_to.step_bytes, mean_within);
    check_share("replay steps", is.replay_steps, fitted_to.replay_steps, mean_within);
    check_share("replay bytes", is.replay_bytes, fitted_to.replay_bytes, mean_within);
    check_share("p90", (double)is.replay_bytes_p90, (double)fitted_to.replay_bytes_p90, p90_within);
}

START_TEST(test_built_in)
{
    struct conversations conversations;
    ck_assert(conversations_open(&conversations, NULL));
    ck_assert_uint_eq(conversations.count, 540);
    ck_assert_uint_eq(conversations.turns_max, 498);
    check(&conversations, 0.05, 0.18);
    conversations_close(&conversations);
}
END_TEST

START_TEST(test_file)
{
    static const char name[] = "../shared/data/workload-claudecode-dev.jsonl.gz";
    struct conversations conversations;
    if (access(name, R_OK) != 0) {
        return;
    }
    ck_assert(conversations_open(&conversations, name));
    ck_assert_uint_eq(conversations.count, 540);
    ck_assert_uint_eq(conversations.turn_count, 35108);
    ck_assert_uint_eq(conversations.turns_max, 514);
    ck_assert_uint_eq(conversations.step_bytes_max, 61560);
    ck_assert_uint_eq(conversations.thread_bytes_max, 985372);
    check(&conversations, 0.0001, 0.0001);
    conversations_close(&conversations);
}
END_TEST

START_TEST(test_no_file)
{
    struct conversations conversations;
    ck_assert(!conversations_open(&conversations, "/dev/null"));
}
END_TEST

/* Each once; another seed, another order; the short ones behind the others. */
START_TEST(test_order)
{
    struct conversations conversations;
    ck_assert(conversations_open(&conversations, NULL));
    uint32_t order[2][540];
    bool seen[540] = {false};
    conversations_order(&conversations, 1, order[0]);
    conversations_order(&conversations, 2, order[1]);
    bool is_short = false;
    unsigned same = 0;
    for (unsigned i = 0; i < 540; i++) {
        ck_assert(!seen[order[0][i]]);
        seen[order[0][i]] = true;
        same += order[0][i] == order[1][i];
        bool now = conversations.all[order[0][i]].turns <= 20;
        ck_assert(now || !is_short);
        is_short = now;
    }
    ck_assert_uint_lt(same, 300);
    conversations_close(&conversations);
}
END_TEST

int main(void)
{
    return SUITE_RUN("conversations", NULL, NULL, 0, test_built_in, test_file, test_no_file,
                     test_order);
}
