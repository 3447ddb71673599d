/* What a replay returns of a thread that is there: policies, bindings, budgets, what is held, pins.
 */
#include "tests/lib/domain.h"
#include "tests/lib/suite.h"

#define SAY(line, answer) ck_assert_str_eq(domain_say(&domain, line), answer)

static struct domain domain;

static void open_domain(void)
{
    domain_open(&domain, domain_settings());
}

static void close_domain(void)
{
    domain_close(&domain);
}

/* Two turns: a tool loop with its answer, then an answer at once; then a loop that is under way. */
static void three_turns(void)
{
    SAY("append t turn=1 call=c1 prefix=p0 model=m tokens=3 : aa", "step 0 v1 created");
    SAY("append t turn=1 prefix=p1 model=m tokens=4 : bb", "step 1 v2");
    SAY("append t turn=2 prefix=p2 model=m : cccc", "step 2 v3");
    SAY("append t turn=4 call=c2 call=c3 prefix=p3 model=n tokens=1 : dd", "step 3 v4");
}

START_TEST(each_policy_keeps_its_steps)
{
    three_turns();
    SAY("replay t", "complete t v4 head 3: 0=aa 1=bb 2=cccc 3=dd");
    SAY("replay t policy=all", "complete t v4 head 3: 0=aa 1=bb 2=cccc 3=dd");
    SAY("replay t policy=none", "complete t v4 head 3 kept_from 4 dropped 4:");
    SAY("replay t policy=current_turn", "complete t v4 head 3 kept_from 3 dropped 3: 3=dd");
    SAY("replay t policy=current_turn turn=2",
        "complete t v4 head 3 kept_from 2 dropped 2: 2=cccc 3=dd");
    SAY("replay t policy=current_turn turn=3", "complete t v4 head 3 kept_from 3 dropped 3: 3=dd");
    SAY("replay t policy=current_turn turn=5", "complete t v4 head 3 kept_from 4 dropped 4:");
    SAY("replay t policy=since_final", "complete t v4 head 3 kept_from 3 dropped 3: 3=dd");
    SAY("replay t policy=tool_turns", "complete t v4 head 3 kept_from 0 dropped 1: 0=aa 1=bb 3=dd");
    SAY("replay t policy=last_turns turns=1", "complete t v4 head 3 kept_from 3 dropped 3: 3=dd");
    SAY("replay t policy=last_turns turns=2",
        "complete t v4 head 3 kept_from 2 dropped 2: 2=cccc 3=dd");
    SAY("replay t policy=last_turns turns=9",
        "complete t v4 head 3 kept_from 0 dropped 0: 0=aa 1=bb 2=cccc 3=dd");
}
END_TEST

START_TEST(a_key_ends_what_a_policy_sees)
{
    three_turns();
    SAY("replay t tool_call=c1 policy=current_turn",
        "complete t v4 head 3 kept_from 0 dropped 0: 0=aa");
    SAY("replay - prefix=p2 policy=current_turn",
        "complete t v4 head 3 kept_from 2 dropped 2: 2=cccc");
    SAY("replay - prefix=p2 policy=tool_turns",
        "complete t v4 head 3 kept_from 0 dropped 1: 0=aa 1=bb");
    /* The tool was called later in the turn: at this step nobody knew. */
    SAY("append u turn=1 final=1 prefix=q0 : aa", "step 0 v1 created");
    SAY("append u turn=1 call=c9 : bb", "step 1 v2");
    SAY("replay - prefix=q0 policy=tool_turns", "complete u v2 head 1 kept_from 1 dropped 1:");
    SAY("replay u policy=tool_turns", "complete u v2 head 1 kept_from 0 dropped 0: 0=aa 1=bb");
}
END_TEST

START_TEST(a_profile_says_the_policy)
{
    SAY("append t turn=1 model=Qwen/Qwen3-32B : aa", "step 0 v1 created");
    SAY("append t turn=2 : bb", "step 1 v2");
    SAY("replay t policy=auto", "complete t v2 head 1 kept_from 1 dropped 1: 1=bb");
    SAY("replay t policy=auto model=kimi-k3",
        "complete t v2 head 1 kept_from 0 dropped 0: 0=aa 1=bb");
}
END_TEST

START_TEST(another_prefix_undoes_all_that_follows)
{
    three_turns();
    SAY("replay t prefixes=0:p0,3:p3", "complete t v4 head 3: 0=aa 1=bb 2=cccc 3=dd");
    SAY("replay t prefixes=3:p3,1:xx,2:p2",
        "partial t v4 head 3: 0=aa 1?prefix_mismatch 2?prefix_mismatch 3?prefix_mismatch");
    SAY("replay t prefixes=9:xx", "complete t v4 head 3: 0=aa 1=bb 2=cccc 3=dd");
    SAY("replay t prefixes=1:xx on_mismatch=1", "miss prefix_mismatch v4");
    /* What the policy leaves out can still have been edited. */
    SAY("replay t prefixes=1:xx policy=current_turn",
        "partial t v4 head 3 kept_from 3 dropped 3: 3?prefix_mismatch");
    /* A step that recorded none cannot differ. */
    SAY("append u : aa", "step 0 v1 created");
    SAY("replay u prefixes=0:xx", "complete u v1 head 0: 0=aa");
    /* Who holds the step is told. */
    SAY("replay t have=4,3 prefixes=2:xx",
        "partial t v4 head 3 first_changed 2: 2?prefix_mismatch 3?prefix_mismatch");
}
END_TEST

START_TEST(who_may_not_read_gets_nothing)
{
    three_turns();
    SAY("replay t model=m", "partial t v4 head 3: 0=aa 1=bb 2=cccc 3?model_mismatch");
    SAY("replay t model=m on_mismatch=1", "miss model_mismatch v4");
    SAY("replay t model=m on_mismatch=1 last=1", "miss model_mismatch v4");
    SAY("append q model=qwen3-8b : aa", "step 0 v1 created");
    SAY("append q model=claude-opus-4-5 : bb", "step 1 v2");
    SAY("replay q model=glm-5", "partial q v2 head 1: 0=aa 1?model_mismatch");
}
END_TEST

START_TEST(tokens_have_a_budget_too)
{
    three_turns();
    /* 3, 4, one for four bytes, 1. */
    SAY("replay t max_tokens=9", "complete t v4 head 3: 0=aa 1=bb 2=cccc 3=dd");
    SAY("replay t max_tokens=8", "partial t v4 head 3: 0?budget 1=bb 2=cccc 3=dd");
    SAY("replay t max_tokens=1", "partial t v4 head 3: 0?budget 1?budget 2?budget 3=dd");
    SAY("replay t max_tokens=0", "partial t v4 head 3: 0?budget 1?budget 2?budget 3?budget");
    SAY("replay t max_tokens=9 max_bytes=9", "partial t v4 head 3: 0?budget 1=bb 2=cccc 3=dd");
    SAY("replay t max_tokens=2 policy=tool_turns",
        "partial t v4 head 3 kept_from 0 dropped 1: 0?budget 1?budget 3=dd");
    /* What the reader may not have does not count. */
    SAY("replay t max_tokens=5 model=m",
        "partial t v4 head 3: 0?budget 1=bb 2=cccc 3?model_mismatch");
}
END_TEST

START_TEST(a_budget_is_for_all_that_is_kept)
{
    three_turns();
    SAY("replay t max_tokens=8", "partial t v4 head 3: 0?budget 1=bb 2=cccc 3=dd");
    /* Who holds just that is told so, and that there was more. */
    SAY("replay t max_tokens=8 have=4,3,1,2,3", "partial t v4 head 3 extends:");
    SAY("append t turn=4 tokens=2 : ee", "step 4 v5");
    SAY("replay t max_tokens=8 have=4,3,1,2,3", "partial t v5 head 4 extends: 4=ee");
    /* What no longer fits has to leave the context. */
    SAY("replay t max_tokens=7 have=4,3,1,2,3",
        "partial t v5 head 4 breaks first_changed 1: 1?budget 2=cccc 3=dd 4=ee");
    SAY("replay t max_bytes=4 have=4,3,2,3",
        "partial t v5 head 4 breaks first_changed 2: 2?budget 3=dd 4=ee");
    /* What fits now comes back. */
    SAY("replay t max_tokens=8 have=4,3,2,3",
        "partial t v5 head 4 breaks first_changed 1: 1=bb 2=cccc 3=dd 4=ee");
    /* Without `kept` it is for what is sent. */
    SAY("replay t max_tokens=2 have=4,3", "complete t v5 head 4: 4=ee");
}
END_TEST

START_TEST(last_counts_what_is_kept)
{
    three_turns();
    SAY("replay t last=2 policy=tool_turns",
        "complete t v4 head 3 kept_from 0 dropped 1: 1=bb 3=dd");
    SAY("replay t last=9 policy=tool_turns",
        "complete t v4 head 3 kept_from 0 dropped 1: 0=aa 1=bb 3=dd");
    SAY("replay t last=2 policy=current_turn", "complete t v4 head 3 kept_from 3 dropped 3: 3=dd");
}
END_TEST

START_TEST(what_is_held_is_compared_with_what_is_kept)
{
    three_turns();
    SAY("replay t have=3,2,0,1,2", "complete t v4 head 3 extends: 3=dd");
    SAY("replay t have=3,2,0,1", "complete t v4 head 3 breaks first_changed 2: 2=cccc 3=dd");
    SAY("replay t policy=current_turn have=3,2,2",
        "complete t v4 head 3 kept_from 3 dropped 3 breaks first_changed 2: 3=dd");
    SAY("replay t policy=current_turn have=3,2,",
        "complete t v4 head 3 kept_from 3 dropped 3 extends: 3=dd");
    SAY("replay t policy=tool_turns have=3,2,0,1",
        "complete t v4 head 3 kept_from 0 dropped 1 extends: 3=dd");
    SAY("replay t have=3,2,0,1,2 prefixes=1:xx",
        "partial t v4 head 3 breaks first_changed 1: 1?prefix_mismatch 2?prefix_mismatch "
        "3?prefix_mismatch");
    SAY("replay t have=4,3,0,1,2,3 model=m",
        "partial t v4 head 3 breaks first_changed 3: 3?model_mismatch");
    SAY("rewind t to=1", "v5 dropped 2");
    SAY("replay t have=4,3,0,1", "complete t v5 head 1 extends:");
    SAY("replay t have=4,3,0,1,3", "complete t v5 head 1 breaks first_changed 3:");
    SAY("append t turn=2 : ee", "step 2 v6");
    SAY("replay t have=4,3,0,1,2", "complete t v6 head 2 breaks first_changed 2: 2=ee");
    SAY("replay t have=9,1,0,1", "complete t v6 head 2 breaks first_changed 0: 0=aa 1=bb 2=ee");
    SAY("replay t have=0,-1,", "complete t v6 head 2 extends: 0=aa 1=bb 2=ee");
}
END_TEST

START_TEST(what_was_lost_is_not_held_against_who_never_had_it)
{
    SAY("append t turn=1 : aa", "step 0 v1 created");
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("append t turn=1 : bb", "step 1 v2 lost 1");
    SAY("replay t have=2,1,1", "partial t v2 head 1 extends:");
    SAY("replay t have=2,1,0,1", "complete t v2 head 1 extends:");
    SAY("replay t policy=current_turn",
        "partial t v2 head 1 kept_from 0 dropped 0: 0?expired 1=bb");
    SAY("replay t policy=current_turn turn=2", "complete t v2 head 1 kept_from 2 dropped 2:");
    SAY("replay t policy=tool_turns", "partial t v2 head 1 kept_from 0 dropped 1: 0?expired");
    SAY("append t turn=2 : cc", "step 2 v3 lost 1");
    SAY("replay t policy=current_turn", "complete t v3 head 2 kept_from 2 dropped 2: 2=cc");
}
END_TEST

START_TEST(a_pin_drops_once_and_for_all)
{
    three_turns();
    SAY("replay t policy=last_turns turns=2 pin=1",
        "complete t v4 head 3 kept_from 2 dropped 2: 2=cccc 3=dd");
    SAY("replay t pin=1", "complete t v4 head 3 kept_from 2 dropped 2: 2=cccc 3=dd");
    SAY("replay t policy=tool_turns pin=1", "complete t v4 head 3 kept_from 3 dropped 3: 3=dd");
    SAY("replay t", "complete t v4 head 3: 0=aa 1=bb 2=cccc 3=dd");
    SAY("replay t policy=none", "complete t v4 head 3 kept_from 4 dropped 4:");
    SAY("replay t pin=1", "complete t v4 head 3 kept_from 3 dropped 3: 3=dd");
    SAY("fork u from=t at=1", "v2");
    SAY("replay u pin=1", "complete u v2 head 1 kept_from 2 dropped 2:");
    SAY("rewind t to=0", "v5 dropped 3");
    SAY("append t turn=1 : ff", "step 1 v6");
    SAY("replay t pin=1", "complete t v6 head 1 kept_from 1 dropped 1: 1=ff");
    SAY("replay t pin=1 prefixes=1:xx on_mismatch=1 policy=none",
        "complete t v6 head 1 kept_from 2 dropped 2:");
}
END_TEST

START_TEST(a_miss_moves_no_floor)
{
    three_turns();
    SAY("replay t pin=1 policy=current_turn model=m on_mismatch=1", "miss model_mismatch v4");
    SAY("replay t pin=1", "complete t v4 head 3 kept_from 0 dropped 0: 0=aa 1=bb 2=cccc 3=dd");
    SAY("replay - pin=1 prefix=p9", "miss never_seen v0");
}
END_TEST

START_TEST(the_first_prefix_that_is_known_answers)
{
    three_turns();
    SAY("replay - prefix_list=p9,p8", "miss never_seen v0");
    SAY("replay - prefix_list=p9,p2,p3", "complete t v4 head 3 found 1: 0=aa 1=bb 2=cccc");
    SAY("replay t prefix_list=p9,p0", "complete t v4 head 3 found 1: 0=aa");
    SAY("replay t prefix_list=p9,p8", "miss never_seen v4");
    SAY("replay - prefix_list=p2 model=n on_mismatch=1", "miss model_mismatch v4");
    SAY("append u prefix=p1 : zz", "step 0 v1 created");
    SAY("replay - prefix_list=p1,p3", "complete u v1 head 0 found 0 ambiguous: 0=zz");
    SAY("forget u", "forgotten");
    /* The newest that carried it is gone, and never is an older step its answer; another prefix is.
     */
    SAY("replay - prefix_list=p1", "miss forgotten v0 ambiguous");
    SAY("replay - prefix_list=p1,p3", "complete t v4 head 3 found 1: 0=aa 1=bb 2=cccc 3=dd");
}
END_TEST

int main(void)
{
    return SUITE_RUN("select", open_domain, close_domain, 0, each_policy_keeps_its_steps,
                     a_key_ends_what_a_policy_sees, a_profile_says_the_policy,
                     another_prefix_undoes_all_that_follows, who_may_not_read_gets_nothing,
                     tokens_have_a_budget_too, a_budget_is_for_all_that_is_kept,
                     last_counts_what_is_kept, what_is_held_is_compared_with_what_is_kept,
                     what_was_lost_is_not_held_against_who_never_had_it,
                     a_pin_drops_once_and_for_all, a_miss_moves_no_floor,
                     the_first_prefix_that_is_known_answers);
}
