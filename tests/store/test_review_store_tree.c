/*
 * Reviewed: a thread that is put whole once more, as after every failure. What others wrote since
 * must stay as it is.
 */
#include "tests/lib/suite.h"
#include "tests/store/test_tree.h"

/* The whole of a thread: a step for each response id, in order; NULL: a step without. */
static void put_whole(uint64_t uid, const char *id, const char *const *response_ids, uint32_t count)
{
    const struct step *steps[STEPS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        steps[i] = make_step(i, i + 1, response_ids[i], 100);
    }
    put(head_of(uid, id, count, count), 0, REASON_REWOUND, steps, count);
}

START_TEST(put_again_takes_no_key_back)
{
    put_whole(1, "a", (const char *[]){"r"}, 1);
    put_whole(2, "b", (const char *[]){"r"}, 1);
    KEY("r", "found 2/0 v1 shared");
    put_whole(1, "a", (const char *[]){"r", "new"}, 2);
    KEY("r", "found 2/0 v1 shared");
    KEY("new", "found 1/1 v2");
    erase(1, "a", REASON_EXPIRED);
    KEY("r", "found 2/0 v1 shared");
    KEY("new", "gone expired");
}
END_TEST

START_TEST(put_again_digs_out_no_key)
{
    put_whole(1, "a", (const char *[]){"r"}, 1);
    put_whole(2, "b", (const char *[]){"r"}, 1);
    erase(2, "b", REASON_FORGOTTEN);
    KEY("r", "gone forgotten shared");
    put_whole(1, "a", (const char *[]){"r"}, 1);
    KEY("r", "gone forgotten shared");
    /* A step that is new has it again. */
    put_whole(1, "a", (const char *[]){"r", "r"}, 2);
    KEY("r", "found 1/1 v2 shared");
}
END_TEST

/* Of one thread, too: the newest step that carried the key is gone. */
START_TEST(rewound_while_the_disk_was_not_told)
{
    put_whole(1, "a", (const char *[]){"r", NULL, "r"}, 3);
    KEY("r", "found 1/2 v3");
    put_whole(1, "a", (const char *[]){"r", NULL}, 2);
    KEY("r", "gone rewound");
    put_whole(1, "a", (const char *[]){"r", NULL}, 2);
    KEY("r", "gone rewound");
}
END_TEST

/* What never came to the disk enters its keys with the put that brings it. */
START_TEST(put_whole_with_steps_the_disk_lacks)
{
    append(1, "a", 0, "r0");
    put_whole(1, "a", (const char *[]){"r0", "r1", "r2"}, 3);
    KEY("r0", "found 1/0 v1");
    KEY("r1", "found 1/1 v2");
    KEY("r2", "found 1/2 v3");
}
END_TEST

/* In several transactions, where the head is taken away in between. */
START_TEST(put_again_in_many_transactions)
{
    char ids[STEPS_MAX][16];
    const char *response_ids[STEPS_MAX];
    for (unsigned i = 0; i < 60; i++) {
        snprintf(ids[i], sizeof ids[i], "r%u", i);
        response_ids[i] = ids[i];
    }
    tree->txn_cost = 20;
    put_whole(1, "a", response_ids, 60);
    put_whole(2, "b", response_ids, 30);
    put_whole(1, "a", response_ids, 60);
    for (unsigned i = 0; i < 60; i++) {
        char answer[40];
        snprintf(answer, sizeof answer, i < 30 ? "found 2/%u v%u shared" : "found 1/%u v%u", i,
                 i + 1);
        KEY(ids[i], answer);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("review_store_tree", setup_tree, teardown_tree, 60,
                     put_again_takes_no_key_back, put_again_digs_out_no_key,
                     rewound_while_the_disk_was_not_told, put_whole_with_steps_the_disk_lacks,
                     put_again_in_many_transactions);
}
