"""Streams under a limit of tokens, while a limiter restarts and another one, without its ledger, takes over, and a pod dies
in the middle of its streams: none is over, and no other stream is lost."""

import unittest

import product
from cluster import until
from token_campaigns import STREAMS, MidStream, TokenCampaign

ACCOUNT = "streams"
LIMITED = STREAMS._replace(calls=90)
# Limiters and a pod are killed.
DISTURBS_THE_INSTALLATION = True
# test_killed_processes_lose_no_call has a shorter one.
ONLY_WHEN_NAMED = True


class Streams(TokenCampaign):
    namespaces = ("tokens",)

    def test_no_token_is_over_and_no_other_stream_is_lost(self):
        self.declare(ACCOUNT, LIMITED, MidStream.CHUNK_SECONDS)
        job = self.enrich("chat-streaming", ACCOUNT, LIMITED)
        dying = MidStream(self, ACCOUNT)
        for calls, strike in (
            (20, lambda: product.kill("limiter")),
            (40, dying.die),
            (60, lambda: product.replace("limiter")),
        ):
            until(f"{calls} calls", lambda: self.provider.tried(ACCOUNT) >= calls)
            strike()
        self.judge(job, LIMITED.calls)
        self.assertGreater(len(dying.streams("hungUp")), 0, "the pod died in the middle of its streams")


if __name__ == "__main__":
    unittest.main(verbosity=2)
