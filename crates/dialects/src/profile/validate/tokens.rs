//! What makes the reading of tokens acceptable.

use super::{Check, is_path};
use crate::profile::{Tokens, UsageRequest};
use crate::request::MOST_POINTERS;

impl Check<'_> {
    fn paths(&mut self, field: &str, paths: &[String]) {
        for (index, path) in paths.iter().enumerate() {
            let message =
                format!("`{path}` is not a path pattern; begin it with `/`, such as `/v1/embeddings`");
            self.require(is_path(path), format!("{field}[{index}]"), message);
        }
    }

    pub(super) fn tokens(&mut self) {
        let Some(tokens) = &self.profile.tokens else { return };
        for (index, pointer) in tokens.choices.iter().enumerate() {
            self.pointer(&format!("tokens.choices[{index}]"), pointer);
        }
        self.paths("tokens.withoutOutput", &tokens.without_output);
        self.paths("tokens.withoutTokens", &tokens.without_tokens);
        for (index, media) in tokens.media.iter().enumerate() {
            let field = format!("tokens.media[{index}]");
            self.pointers(&format!("{field}.at"), &media.at);
            for (number, known) in media.per_model.iter().enumerate() {
                self.models(&format!("{field}.perModel[{number}].models"), &known.models);
            }
            let message = "is 0; write how many bytes one token stands for, such as 100";
            self.require(media.bytes_per_token != Some(0), format!("{field}.bytesPerToken"), message);
        }
        for (index, stored) in tokens.stored_input.iter().enumerate() {
            self.pointers(&format!("tokens.storedInput[{index}].at"), &stored.at);
        }
        self.number_of_pointers(tokens);
        let Some(usage) = &tokens.usage else { return };
        self.pointers("tokens.usage.at", &usage.at);
        self.pointers("tokens.usage.input", &usage.input);
        for pointer in usage.figures().chain(&usage.text) {
            self.pointer("tokens.usage", pointer);
        }
        if let Some(asked) = &usage.asked_by {
            self.usage_request(asked);
        }
        let places = usage.places();
        let message = format!(
            "leads to {places} places in an answer, more than the {MOST_POINTERS} that are read; remove some pointers"
        );
        self.require(places <= MOST_POINTERS, "tokens.usage", message);
    }

    fn usage_request(&mut self, asked: &UsageRequest) {
        for (index, path) in asked.paths.iter().enumerate() {
            let message =
                format!("`{path}` is not a path pattern; begin it with `/`, such as `/v1/chat/completions`");
            self.require(is_path(path), format!("tokens.usage.askedBy.paths[{index}]"), message);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let message = format!(
            "`{}` is not a name; use letters, digits and `_`, such as `stream_options`",
            asked.member
        );
        let is_name = !asked.member.is_empty() && asked.member.bytes().all(plain);
        self.require(is_name, "tokens.usage.askedBy.member", message);
        let message =
            format!("`{}` is not JSON; write for example `{{\"include_usage\":true}}`", asked.value);
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&asked.value).is_ok();
        self.require(is_json, "tokens.usage.askedBy.value", message);
        self.pointer("tokens.usage.askedBy.empty", &asked.empty);
    }

    fn pointers(&mut self, field: &str, pointers: &[String]) {
        let message = "is empty; give at least one JSON pointer, such as `/n`";
        self.require(!pointers.is_empty(), field, message);
        for (index, pointer) in pointers.iter().enumerate() {
            self.pointer(&format!("{field}[{index}]"), pointer);
        }
    }

    fn number_of_pointers(&mut self, tokens: &Tokens) {
        let media = tokens.media.iter().map(|media| media.at.len());
        let stored = tokens.stored_input.iter().map(|stored| stored.at.len());
        let of_model = self.profile.model.as_ref().map_or(0, |model| model.max_output_tokens.len() + 2);
        // Whether a stream is wanted is one more.
        let all = tokens.choices.len() + media.chain(stored).sum::<usize>() + of_model + 1;
        let message = format!(
            "leads to {all} places in a request, more than the {MOST_POINTERS} that are read; remove some pointers"
        );
        self.require(all <= MOST_POINTERS, "tokens", message);
    }
}
