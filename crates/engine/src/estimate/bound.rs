//! The most that a call can use, before anything is known of calls like it.

use crate::config::AccountConfig;
use crate::token_costs::TokenAmounts;
use crate::tokens::CallSize;

/// The most tokens that a call to `model` can use, by what its request says and what is known of the model; where
/// that is nothing, by what is known of any model. A figure of `u64::MAX` is bounded by nothing.
///
/// A token is a byte at least, so its text bounds its input, unless it refers to input that is not in it, or nobody
/// could read it; then only the model's context does.
pub fn bound(config: &AccountConfig, model: Option<&str>, size: Option<&CallSize>) -> TokenAmounts {
    let named = model.and_then(|model| config.models.get(model));
    let any = &config.any_model;
    let own_context = named.and_then(|facts| facts.context);
    let context = own_context.or(any.context).unwrap_or(u64::MAX);
    let text = size.filter(|size| !size.stored_input);
    let text = text.map_or(u64::MAX, |size| size.text_bytes.saturating_add(size.media_tokens));
    // What a request allows binds any provider; a model that isn't known may produce more than those that are.
    let of_model = named.and_then(|facts| facts.max_output);
    let completion = match (size.and_then(|size| size.max_output), of_model) {
        (Some(allowed), Some(most)) => allowed.min(most),
        (Some(allowed), None) => allowed,
        (None, Some(most)) => most,
        (None, None) => any.max_output.unwrap_or(context),
    };
    let completion = completion.min(own_context.unwrap_or(u64::MAX));
    let choices = size.map_or(1, CallSize::choices);
    TokenAmounts { input: text.min(context), output: completion.saturating_mul(choices) }
}
