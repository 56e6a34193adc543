"""SDKs in pods under limits of tokens that they would break: no call is over, and most of the tokens are used."""

import unittest

from token_campaigns import PROGRAMS, SECONDS, TokenCampaign
from workloads import Job


class Tokens(TokenCampaign):
    namespaces = ("tokens",)
    # As many times the calls, and what is used at least of which windows. A limiter that charges all that calls allow
    # would use half; a stalled machine empties two of the three windows between the first and the last.
    times, used_percent, of_windows = 1, 70, "fullerHalfPercent"

    def test_every_sdk_uses_its_tokens_and_no_more(self):
        programs = {name: limited._replace(calls=self.times * limited.calls) for name, limited in PROGRAMS.items()}
        for program, limited in programs.items():
            self.declare(f"tokens-{program}", limited)
        chat = PROGRAMS["chat"]
        self.provider.limit_tokens("without", chat.unit, chat.amount, SECONDS, chat.provider, chunk_seconds=0.05)
        # Alone: on a machine that is busy with the others its calls may come as slowly as the limit lets them.
        Job("tokens", "without", "chat", "without", pods=1, calls=64, clients=32).start().wait()
        self.assertGreater(self.provider.totals("without")["over"], 0, "they would not break it without Quotakeeper")
        jobs = {program: self.enrich(program, f"tokens-{program}", limited) for program, limited in programs.items()}
        for program, job in jobs.items():
            with self.subTest(program):
                tokens = self.judge(job, programs[program].calls)
                self.assertGreaterEqual(tokens[self.of_windows], self.used_percent, tokens)


if __name__ == "__main__":
    unittest.main(verbosity=2)
