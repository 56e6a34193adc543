//! Tokens, credits and money: what a call really uses, and what a limit counts for it, and when. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::counting::Limit;

/// What a limit counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Calls.
    #[default]
    Requests,
    /// Tokens that calls send.
    InputTokens,
    /// Tokens that calls get.
    OutputTokens,
    /// Both.
    TotalTokens,
    /// The provider's own unit, `perCall` for each call.
    Credits,
    /// Money, in any small unit: the rates say how much of it a token costs.
    Dollars,
}

/// When a limit counts what a call draws.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Charged {
    /// When it arrives, by an estimate from the request; what it then uses changes nothing.
    #[default]
    Arrival,
    /// The same, and at its end what it used replaces the estimate.
    Settled,
    /// Its input when it arrives, its output as it is produced.
    Produced,
    /// At its end.
    End,
}

/// What an estimate makes of the most output that a request allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArrivalOutput {
    /// Added to the input.
    #[default]
    Sum,
    /// The larger of it and the input.
    Max,
    /// Left out.
    Ignored,
}

/// How a limit counts tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TokenCounting {
    /// When.
    pub charged: Charged,
    /// Characters to a token in the estimate at arrival.
    pub chars_per_token: u64,
    /// What that estimate makes of the most output.
    pub output: ArrivalOutput,
    /// What a token counts for; by default 1 where the unit has it.
    pub rates: Option<Rates>,
    /// What each call draws beside its tokens; of credits, all that it draws.
    pub per_call: u64,
    /// Whether a rejected call is charged what it would have drawn when it arrives, where the account counts rejected
    /// calls at all.
    pub rejected_counts: bool,
}

impl Default for TokenCounting {
    fn default() -> Self {
        Self {
            charged: Charged::default(),
            chars_per_token: 4,
            output: ArrivalOutput::default(),
            rates: None,
            per_call: 0,
            rejected_counts: false,
        }
    }
}

/// What a token of each kind counts for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rates {
    /// Input that no cache knew.
    pub input: u64,
    /// Input that was read from a cache.
    pub cached: u64,
    /// Input that was written to a cache.
    pub cache_write: u64,
    /// Output.
    pub output: u64,
}

/// What a call uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// All input tokens.
    pub input: u64,
    /// Of them, read from a cache.
    pub cached: u64,
    /// Of them, written to a cache.
    pub cache_write: u64,
    /// Output tokens of all choices, reasoning included.
    pub output: u64,
    /// Of them, reasoning that the client doesn't see.
    pub reasoning: u64,
}

/// What a call is to use: `output=500 reasoning=100 cached=50 input=2000 write=10`, in a header `x-play` or in the
/// prompt as `[play …]`. What is not named is made up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Play {
    pub input: Option<u64>,
    pub cached: u64,
    pub cache_write: u64,
    /// Of one choice, reasoning included.
    pub output: Option<u64>,
    pub reasoning: u64,
    pub credits: Option<u64>,
}

impl Play {
    pub(crate) fn parse(text: &str) -> Self {
        let mut play = Self::default();
        for (name, value) in text.split([' ', ',']).filter_map(|pair| pair.split_once('=')) {
            let Ok(value) = value.trim().parse() else { continue };
            match name.trim() {
                "input" => play.input = Some(value),
                "cached" => play.cached = value,
                "write" => play.cache_write = value,
                "output" => play.output = Some(value),
                "reasoning" => play.reasoning = value,
                "credits" => play.credits = Some(value),
                _ => (),
            }
        }
        play
    }
}

/// What a request says of its tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Characters of its prompt, as JSON.
    pub chars: u64,
    /// The most output of one choice.
    pub most_output: Option<u64>,
    pub choices: u64,
    pub play: Play,
    /// What it costs in credits, where it or the limit's `perCall` says: so many, or one for each of its `details`.
    pub credits: Option<u64>,
}

/// How long answers are that no request decides: from `least` to `most` tokens, evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutputTokens {
    /// The shortest.
    pub least: u64,
    /// The longest.
    pub most: u64,
}

/// Tokens of an answer whose length nothing decides.
const USUAL_OUTPUT: u64 = 8;

impl Wanted {
    /// Reads a body; `header` is that of `x-play`.
    pub(crate) fn read(body: &Value, header: Option<&str>) -> Self {
        let prompt = ["messages", "input", "prompt", "system", "instructions", "tools"];
        let texts: Vec<String> =
            prompt.iter().filter_map(|field| body.get(*field)).map(Value::to_string).collect();
        let play = texts.iter().find_map(|text| text.split_once("[play ")?.1.split_once(']'));
        let most = ["max_completion_tokens", "max_output_tokens", "max_tokens"];
        let play = header.or(play.map(|(text, _)| text)).map(Play::parse).unwrap_or_default();
        let details = body["details"].as_array().map(|details| details.len() as u64);
        Self {
            chars: texts.iter().map(|text| text.chars().count() as u64).sum(),
            most_output: most.iter().find_map(|field| body[*field].as_u64()),
            choices: body["n"].as_u64().unwrap_or(1).clamp(1, 128),
            play,
            credits: play.credits.or(details),
        }
    }

    /// The same of a call that has no output.
    pub(crate) fn without_output(mut self) -> Self {
        (self.most_output, self.play.output, self.play.reasoning) = (Some(0), Some(0), 0);
        self
    }

    /// What the call uses; `number` tells calls apart.
    pub(crate) fn usage(&self, outputs: Option<OutputTokens>, number: u64) -> Usage {
        let input = self.play.input.unwrap_or(self.chars.div_ceil(4).max(1));
        let cached = self.play.cached.min(input);
        let made_up = outputs.map(|range| {
            // Numbers that look like chance and are the same in each run.
            let mixed = (number ^ (number >> 3)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            range.least + mixed % (range.most.saturating_sub(range.least) + 1)
        });
        let one = self.play.output.or(made_up).unwrap_or(USUAL_OUTPUT);
        let one = one.min(self.most_output.unwrap_or(u64::MAX));
        Usage {
            input,
            cached,
            cache_write: self.play.cache_write.min(input - cached),
            output: one.saturating_mul(self.choices),
            reasoning: self.play.reasoning.min(one).saturating_mul(self.choices),
        }
    }

    /// Whether the answer ends because no more output is allowed.
    pub(crate) fn cut_short(&self, usage: &Usage) -> bool {
        let wants = self.play.output.unwrap_or(USUAL_OUTPUT);
        self.most_output.is_some_and(|most| usage.output / self.choices.max(1) >= most && most < wants)
    }
}

impl Limit {
    /// Whether what it counts of a call depends on its tokens.
    pub fn counts_tokens(&self) -> bool {
        !matches!(self.unit, Unit::Requests | Unit::Credits)
    }

    /// Whether it may count something of a call while its answer is produced, or when that is over.
    pub(crate) fn counts_later(&self) -> bool {
        let later = matches!(self.counting().charged, Charged::Settled | Charged::End);
        self.counts_tokens() || self.unit == Unit::Credits && later
    }

    /// Whether a rejected call counts, where the account counts them.
    pub(crate) fn counts_rejected(&self) -> bool {
        self.unit == Unit::Requests || self.counting().rejected_counts
    }

    fn counting(&self) -> TokenCounting {
        self.tokens.unwrap_or_default()
    }

    /// What a token counts for.
    pub fn rates(&self) -> Rates {
        let (input, output) = match self.unit {
            Unit::InputTokens => (1, 0),
            Unit::OutputTokens => (0, 1),
            Unit::TotalTokens => (1, 1),
            Unit::Requests | Unit::Credits | Unit::Dollars => (0, 0),
        };
        let usual = Rates { input, cached: input, cache_write: input, output };
        self.counting().rates.unwrap_or(usual)
    }

    /// What a usage counts for.
    fn value(&self, usage: &Usage) -> u64 {
        let rates = self.rates();
        let fresh = usage.input - usage.cached - usage.cache_write;
        self.counting().per_call
            + rates.input * fresh
            + rates.cached * usage.cached
            + rates.cache_write * usage.cache_write
            + rates.output * usage.output
    }

    fn at_arrival(&self, wanted: &Wanted) -> u64 {
        let (counting, rates) = (self.counting(), self.rates());
        let input = rates.input.max(rates.cached) * wanted.chars.div_ceil(counting.chars_per_token.max(1));
        let output = rates.output * wanted.most_output.unwrap_or(0) * wanted.choices;
        counting.per_call
            + match counting.output {
                ArrivalOutput::Sum => input + output,
                ArrivalOutput::Max => input.max(output),
                ArrivalOutput::Ignored => input,
            }
    }

    /// What a call draws of it by now, that has used so much until now. `over`: it uses no more.
    pub(crate) fn due(&self, wanted: Option<&Wanted>, used: &Usage, over: bool) -> u64 {
        match (self.unit, wanted) {
            (Unit::Requests, _) => 1,
            (Unit::Credits, _) if !over && self.counting().charged == Charged::End => 0,
            (Unit::Credits, _) if !over && self.counting().charged == Charged::Settled => {
                self.counting().per_call
            }
            (Unit::Credits, wanted) => {
                wanted.and_then(|wanted| wanted.credits).unwrap_or(self.counting().per_call.max(1))
            }
            (_, None) => 0,
            (_, Some(wanted)) => match self.counting().charged {
                Charged::Arrival => self.at_arrival(wanted),
                Charged::Settled if !over => self.at_arrival(wanted),
                Charged::End if !over => 0,
                Charged::Produced | Charged::Settled | Charged::End => self.value(used),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::counting::CountedAs;
    use serde_json::json;

    fn limit(unit: Unit, counting: TokenCounting) -> Limit {
        let tokens = Some(counting);
        Limit { unit, tokens, ..Limit::new("tokens", 1_000, 60_000, CountedAs::Bucket) }
    }

    fn wanted() -> Wanted {
        Wanted { chars: 400, most_output: Some(300), choices: 2, play: Play::default(), credits: None }
    }

    const USED: Usage = Usage { input: 90, cached: 40, cache_write: 10, output: 70, reasoning: 0 };

    #[test]
    fn each_way_of_charging_counts_at_its_own_time() {
        let due = |charged, output| {
            let limit = limit(Unit::TotalTokens, TokenCounting { charged, ..TokenCounting::default() });
            limit.due(Some(&wanted()), &Usage { output, ..USED }, output == 70)
        };
        let at = |charged| [0, 30, 70].map(|output| due(charged, output));
        assert_eq!(at(Charged::Arrival), [700, 700, 700]);
        assert_eq!(at(Charged::Settled), [700, 700, 160]);
        assert_eq!(at(Charged::Produced), [90, 120, 160]);
        assert_eq!(at(Charged::End), [0, 0, 160]);
    }

    #[test]
    fn an_estimate_adds_the_most_output_or_takes_the_larger() {
        let at = |output| {
            let limit = limit(Unit::TotalTokens, TokenCounting { output, ..TokenCounting::default() });
            limit.due(Some(&wanted()), &USED, false)
        };
        let all = [ArrivalOutput::Sum, ArrivalOutput::Max, ArrivalOutput::Ignored];
        assert_eq!(all.map(at), [700, 600, 100]);
    }

    #[test]
    fn units_and_rates_decide_which_tokens_count() {
        let end = TokenCounting { charged: Charged::End, ..TokenCounting::default() };
        let due = |unit, counting| limit(unit, counting).due(Some(&wanted()), &USED, true);
        assert_eq!(due(Unit::InputTokens, end), 90);
        assert_eq!(due(Unit::OutputTokens, end), 70);
        let rates = Some(Rates { input: 1, cached: 0, cache_write: 1, output: 0 });
        assert_eq!(due(Unit::InputTokens, TokenCounting { rates, ..end }), 50);
        let prices = Some(Rates { input: 250, cached: 125, cache_write: 300, output: 1_000 });
        let money = TokenCounting { rates: prices, per_call: 7, ..end };
        assert_eq!(due(Unit::Dollars, money), 7 + 40 * 250 + 40 * 125 + 10 * 300 + 70 * 1_000);
        assert_eq!(due(Unit::Credits, TokenCounting { per_call: 3, ..end }), 3);
        assert_eq!(limit(Unit::TotalTokens, end).due(None, &Usage::default(), true), 0);
    }

    #[test]
    fn a_request_decides_what_it_uses() {
        let body = json!({"messages": [{"content": "[play output=500 reasoning=100 cached=3 input=20]"}],
            "max_tokens": 400, "n": 2});
        let wanted = Wanted::read(&body, None);
        let usage = wanted.usage(None, 1);
        assert_eq!(usage, Usage { input: 20, cached: 3, cache_write: 0, output: 800, reasoning: 200 });
        assert!(wanted.cut_short(&usage));
        assert_eq!(Wanted::read(&body, Some("output=5")).usage(None, 1).output, 10);
        let plain = Wanted::read(&json!({"messages": []}), None);
        assert_eq!((plain.usage(None, 1).input, plain.usage(None, 1).output), (1, 8));
        let range = Some(OutputTokens { least: 10, most: 20 });
        let lengths: Vec<u64> = (0..100).map(|number| plain.usage(range, number).output).collect();
        assert!(lengths.iter().all(|length| (10..=20).contains(length)));
        assert!(lengths.iter().min() < Some(&13) && lengths.iter().max() > Some(&17), "{lengths:?}");
    }
}
