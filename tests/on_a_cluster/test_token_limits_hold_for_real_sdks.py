"""SDKs in pods under limits of tokens that they would break: no call is over, and nearly all of the tokens are used."""

import unittest

from token_campaigns import PROGRAMS, SECONDS, TokenCampaign
from workloads import Job

# Of what the windows between the first and the last allow.
USED_PERCENT = 90


class Tokens(TokenCampaign):
    namespaces = ("tokens",)

    def test_every_sdk_uses_its_tokens_and_no_more(self):
        for program, limited in PROGRAMS.items():
            self.declare(f"tokens-{program}", limited)
        chat = PROGRAMS["chat"]
        self.provider.limit_tokens("without", chat.unit, chat.amount, SECONDS, chat.provider, chunk_seconds=0.05)
        without = Job("tokens", "without", "chat", "without", pods=1, calls=32, clients=16).start()
        jobs = {program: self.enrich(program, f"tokens-{program}", limited) for program, limited in PROGRAMS.items()}
        for program, job in jobs.items():
            with self.subTest(program):
                tokens = self.judge(job, PROGRAMS[program].calls)
                self.assertGreaterEqual(tokens["usedPercent"], USED_PERCENT, tokens)
        without.wait()
        self.assertGreater(self.provider.totals("without")["over"], 0, "they would not break it without Quotakeeper")


if __name__ == "__main__":
    unittest.main(verbosity=2)
