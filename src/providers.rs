//! `quotakeeper providers`: the built-in profiles, with their tiers and figures.

use std::process::ExitCode;

use clap::Args;
use quotakeeper_dialects::calendar::DEFAULT_ZONE;
use quotakeeper_dialects::profile::{Limit, Partition};
use quotakeeper_dialects::{Profile, catalogue};
use serde_json::{Value, json};

use crate::output::{BAD_INPUT, say};
use crate::tables::{Format, figure, print_as, table, window};

/// The arguments of `quotakeeper providers`.
#[derive(Debug, Args)]
pub struct ProvidersArguments {
    /// A provider to show with all tiers and limits.
    name: Option<String>,

    /// The form of the result; JSON and YAML have the whole profile, as an ApiProvider's spec.
    #[arg(short, long, value_enum, default_value_t = Format::Table, value_name = "FORM")]
    output: Format,
}

/// Prints the profiles, or one of them.
pub fn main(arguments: &ProvidersArguments) -> ExitCode {
    let names = match &arguments.name {
        Some(name) => vec![name.as_str()],
        None => catalogue::names(),
    };
    let found: Result<Vec<(&str, Profile)>, String> =
        names.into_iter().map(|name| Ok((name, whole(name)?))).collect();
    match (found, &arguments.name) {
        (Ok(profiles), None) => {
            print_as(arguments.output, || json_of(&profiles), |wide| overview(&profiles, wide))
        }
        (Ok(profiles), Some(_)) => print_as(
            arguments.output,
            || profiles.first().map(|(name, profile)| one_json(name, profile)).unwrap_or_default(),
            |_| profiles.iter().map(|(name, profile)| details(name, profile)).collect(),
        ),
        (Err(error), _) => {
            say(&error);
            ExitCode::from(BAD_INPUT)
        }
    }
}

/// The profile with what it inherits.
fn whole(name: &str) -> Result<Profile, String> {
    let profile = catalogue::find(name).map_err(|error| error.to_string())?;
    profile.resolve(|name| catalogue::find(name).ok()).map_err(|error| error.to_string())
}

fn json_of(profiles: &[(&str, Profile)]) -> Value {
    profiles.iter().map(|(name, profile)| one_json(name, profile)).collect()
}

fn one_json(name: &str, profile: &Profile) -> Value {
    json!({"name": name, "spec": serde_json::to_value(profile).unwrap_or_default()})
}

fn overview(profiles: &[(&str, Profile)], wide: bool) -> String {
    let row = |(name, profile): &(&str, Profile)| {
        let mut row = vec![(*name).to_owned(), profile.tier_names().join(", "), found_by(profile)];
        if wide {
            let verified = profile.verified.as_ref();
            row.push(profile.hosts.join(", "));
            row.push(verified.map(|it| it.date.clone()).unwrap_or_default());
            row.push(verified.map(|it| it.source.clone()).unwrap_or_default());
        }
        row
    };
    let rows: Vec<Vec<String>> = profiles.iter().map(row).collect();
    let headings: &[&str] = match wide {
        true => &["NAME", "TIERS", "CLIENTS FIND IT BY", "HOSTS", "CHECKED", "SOURCE"],
        false => &["NAME", "TIERS", "CLIENTS FIND IT BY"],
    };
    table(headings, &rows)
}

/// How clients are led to the proxy.
fn found_by(profile: &Profile) -> String {
    let variables = profile.base_url.iter().flat_map(|base_url| &base_url.variables);
    let variables: Vec<&str> = variables.map(|variable| variable.name.as_str()).collect();
    if variables.is_empty() { "host".to_owned() } else { variables.join(", ") }
}

fn details(name: &str, profile: &Profile) -> String {
    let rows: Vec<Vec<String>> = profile
        .tiers
        .iter()
        .flat_map(|tier| tier.limits.iter().map(|limit| row(&tier.name, limit)))
        .collect();
    let verified = profile.verified.as_ref().map_or_else(String::new, |verified| {
        format!("\nFigures of {}, from {}\n", verified.date, verified.source)
    });
    format!(
        "{name}: clients find it by {}; hosts {}\n\n{}{verified}",
        found_by(profile),
        profile.hosts.join(", "),
        table(&["TIER", "LIMIT", "AMOUNT", "UNIT", "PER", "COVERS"], &rows)
    )
}

fn row(tier: &str, limit: &Limit) -> Vec<String> {
    let mut covers: Vec<String> =
        limit.endpoint.iter().map(|endpoint| format!("endpoint {endpoint}")).collect();
    covers.extend((!limit.models.is_empty()).then(|| limit.models.join(", ")));
    covers.extend(match limit.partition {
        Some(Partition::Model) => Some("each model apart".to_owned()),
        Some(Partition::Endpoint) => Some("each endpoint apart".to_owned()),
        Some(Partition::Account) | None => None,
    });
    vec![
        tier.to_owned(),
        limit.name.clone(),
        figure(limit.amount),
        format!("{:?}", limit.unit),
        match limit.period {
            Some(period) => format!("{period:?}, {}", limit.time_zone.as_deref().unwrap_or(DEFAULT_ZONE)),
            None => window(limit.window_seconds.unwrap_or(0).into()),
        },
        covers.join(", "),
    ]
}
