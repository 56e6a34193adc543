"""SDKs in pods under limits of tokens that they would break, for so long that a stall of the machine is no excuse: nearly
all of the tokens are used."""

import unittest

import test_token_limits_hold_for_real_sdks as short

ONLY_WHEN_NAMED = True


class InTheLongRun(short.Tokens):
    times, used_percent, of_windows = 3, 90, "usedPercent"


if __name__ == "__main__":
    unittest.main(verbosity=2)
