/* The hash of what was shown, against SHA-256 computed elsewhere. */
#include "client/weave_visible.h"

#include "tests/lib/suite.h"

static void is(struct rethread_bytes text, struct rethread_ids tools, const char *hex)
{
    unsigned char hash[RETHREAD_VISIBLE_BYTES];
    char got[2 * RETHREAD_VISIBLE_BYTES + 1];
    rethread_weave_visible_hash(text, tools, hash);
    sodium_bin2hex(got, sizeof got, hash, sizeof hash);
    ck_assert_str_eq(got, hex);
}

START_TEST(test_known_hashes)
{
    const struct rethread_bytes tools[] = {rethread_text("look"), rethread_text(""),
                                           rethread_text("find")};
    struct rethread_ids none = {0};
    /* By sha256sum: of nothing, of "abc", of "abc\0look\0\0find", of "\0look". */
    is((struct rethread_bytes){0}, none, "e3b0c44298fc1c149afbf4c8996fb924");
    is(rethread_text("abc"), none, "ba7816bf8f01cfea414140de5dae2223");
    is(rethread_text("abc"), (struct rethread_ids){tools, 3}, "397ebe7bdd0806f0f6bef97846f93295");
    is(rethread_text(""), (struct rethread_ids){tools, 1}, "f4d4ffb63be1f7f8692f6ba6fc945797");
}
END_TEST

START_TEST(test_parts_and_the_whole)
{
    struct weave_visible visible;
    unsigned char parts[RETHREAD_VISIBLE_BYTES];
    unsigned char whole[RETHREAD_VISIBLE_BYTES];
    const struct rethread_bytes tool = rethread_text("t");
    weave_visible_begin(&visible);
    weave_visible_text(&visible, rethread_text("one "));
    weave_visible_text(&visible, rethread_text("two"));
    weave_visible_tool(&visible, tool);
    weave_visible_end(&visible, parts);
    rethread_weave_visible_hash(rethread_text("one two"), (struct rethread_ids){&tool, 1}, whole);
    ck_assert_mem_eq(parts, whole, sizeof whole);
}
END_TEST

int main(void)
{
    return SUITE_RUN("weave_visible", NULL, NULL, 0, test_known_hashes, test_parts_and_the_whole);
}
