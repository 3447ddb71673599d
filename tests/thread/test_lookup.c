/* Names to records: after every hash hit the whole key decides. */
#include "thread/lookup.h"

#include "tests/lib/domain.h"
#include "tests/lib/suite.h"
#include "thread/steps.h"

static struct domain domain;

static void setup(void)
{
    domain_open(&domain, domain_settings());
}

static void teardown(void)
{
    domain_close(&domain);
}

static struct index_record *find(enum record_kind kind, const char *id)
{
    struct lookup_key key = lookup_key(domain.lane, kind, bytes_text(id));
    return index_find(domain.lane->threads->index, key.hash, lookup_match, &key);
}

/* Whether the record would answer for another key, were their hashes to collide. */
static bool answers_for(const struct index_record *record, enum record_kind kind, const char *id,
                        uint16_t tenant)
{
    struct lookup_key key = lookup_key(domain.lane, kind, bytes_text(id));
    key.tenant = tenant;
    return lookup_match(record, &key);
}

START_TEST(collisions_are_told_apart)
{
    SAY("append thread response_id=step call=step prefix=0123456789abcdef : x",
        "step 0 v1 created");
    static const struct {
        enum record_kind kind;
        const char *id;
    } all[] = {{RECORD_THREAD, "thread"},
               {RECORD_RESPONSE_ID, "step"},
               {RECORD_TOOL_CALL, "step"},
               {RECORD_PREFIX, "0123456789abcdef"}};
    for (int gone = 0; gone < 2; gone++) {
        for (size_t i = 0; i < 4; i++) {
            const struct index_record *record = find(all[i].kind, all[i].id);
            ck_assert_ptr_nonnull(record);
            ck_assert(record_is_tombstone(record) == (gone > 0));
            ck_assert(answers_for(record, all[i].kind, all[i].id, LOOKUP_TENANT));
            ck_assert(!answers_for(record, all[i].kind, "other", LOOKUP_TENANT));
            ck_assert(!answers_for(record, all[i].kind, "threae", LOOKUP_TENANT));
            ck_assert(!answers_for(record, all[i].kind, "stepp", LOOKUP_TENANT));
            ck_assert(!answers_for(record, all[i].kind, "ste", LOOKUP_TENANT));
            ck_assert(!answers_for(record, all[i].kind, "0123456789abcdeg", LOOKUP_TENANT));
            ck_assert(gone || !answers_for(record, all[i].kind, all[i].id, LOOKUP_TENANT + 1));
            for (size_t k = 0; k < 4; k++) {
                ck_assert(k == i || !answers_for(record, all[k].kind, all[i].id, LOOKUP_TENANT));
            }
        }
        SAY("forget thread", gone ? "nothing" : "forgotten");
        lane_tend_fully(domain.lane);
    }
}
END_TEST

START_TEST(what_is_gone_is_told)
{
    struct lookup found = lookup_thread(domain.lane, bytes_text("t"));
    ck_assert_ptr_null(found.thread);
    ck_assert_ptr_null(found.record);
    ck_assert_int_eq(found.reason, REASON_NEVER_SEEN);
    SAY("append t : x", "step 0 v1 created");
    SAY("append t : x", "step 1 v2");
    SAY("rewind t to=0", "v3 dropped 1");
    found = lookup_thread(domain.lane, bytes_text("t"));
    ck_assert_ptr_nonnull(found.thread);
    ck_assert(bytes_equal(thread_id(found.thread), bytes_text("t")));
    /* Killed, and not buried yet: what its tombstone will say is known already. */
    ck_assert(life_kill(found.thread, UINT64_MAX, REASON_EVICTED));
    found = lookup_thread(domain.lane, bytes_text("t"));
    ck_assert_ptr_null(found.thread);
    ck_assert_int_eq(found.reason, REASON_EVICTED);
    ck_assert_uint_eq(found.version, 3);
    ck_assert_uint_eq(found.steps, 1);
    /* And who appends takes its place. */
    SAY("append t : y", "step 1 v4 lost 1");
    SAY("replay t", "partial t v4 head 1: 0?evicted 1=y");
}
END_TEST

START_TEST(the_overdue_is_buried_on_the_way)
{
    SAY("append t : x", "step 0 v1 created");
    domain_wait(&domain, DOMAIN_TTL_MS);
    struct lookup found = lookup_thread(domain.lane, bytes_text("t"));
    ck_assert_ptr_null(found.thread);
    ck_assert(record_is_tombstone(found.record));
    ck_assert_int_eq(found.reason, REASON_EXPIRED);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_EXPIRED), 1);
}
END_TEST

/* Overdue while an append is at work on it: nobody can tell yet, so all ask again. */
START_TEST(the_overdue_under_a_claim_is_put_back)
{
    SAY("append t response_id=r : x", "step 0 v1 created");
    struct lookup found = lookup_thread(domain.lane, bytes_text("t"));
    ck_assert_int_eq(life_claim(found.thread, domain.lane->now_ms), LIFE_ALIVE);
    SAY("replay t", "complete t v1 head 0: 0=x"); /* a claim disturbs no reader */
    SAY("touch t", "touched");
    SAY("append t : y", "again");
    SAY("append t expect=1 : y", "conflict claimed v1");
    SAY("append t expect=7 : y", "conflict version v1");
    SAY("append t key=k expect=1 : y", "again");
    SAY("forget t", "again");
    SAY("rewind t to=-1", "again");
    SAY("fork f from=t", "again");
    domain_wait(&domain, DOMAIN_TTL_MS);
    lane_tend_fully(domain.lane);
    SAY("replay t", "again");
    SAY("replay - response_id=r", "again");
    SAY("touch t", "again");
    SAY("append t : y", "again");
    struct wire_request request = {.method = WIRE_METHOD_APPEND};
    ck_assert_int_eq(thread_give_up(domain.lane, &request, &domain.error), STATUS_BUSY);
    life_release(found.thread, domain.lane->now_ms, LIFE_EXTEND);
    SAY("replay t", "complete t v1 head 0: 0=x");
    SAY("append t expect=1 : y", "step 1 v2");
}
END_TEST

int main(void)
{
    return SUITE_RUN("lookup", setup, teardown, 0, collisions_are_told_apart, what_is_gone_is_told,
                     the_overdue_is_buried_on_the_way, the_overdue_under_a_claim_is_put_back);
}
