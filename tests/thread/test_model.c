/* The domain against the model of the contract, in memory only. */
#include "tests/thread/model_acts.h"

START_TEST(every_answer_is_the_models)
{
    run_operations(trial_count(250000), NULL);
}
END_TEST

static void setup(void)
{
    keep_ms = DOMAIN_TTL_MS;
    domain_open(&domain, model_settings());
}

static void teardown(void)
{
    domain_close(&domain);
}

int main(void)
{
    return SUITE_RUN("model", setup, teardown, 0, every_answer_is_the_models);
}
