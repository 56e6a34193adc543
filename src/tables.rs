//! Results as tables for people, and as JSON or YAML for programs.

use std::process::ExitCode;

use clap::ValueEnum;
use quotakeeper_api::words::amount_of;
use quotakeeper_api::yaml;
use quotakeeper_engine::config::{LimitConfig, NANODOLLARS, Unit};
use serde_json::{Value, json};

use crate::output::{print, say};

/// The form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// A value for programs, or the text for people.
///
/// # Errors
/// The value has no form in YAML.
pub fn text_as(
    format: Format,
    value: impl FnOnce() -> Value,
    text: impl FnOnce(bool) -> String,
) -> anyhow::Result<String> {
    Ok(match format {
        Format::Table => text(false),
        Format::Wide => text(true),
        Format::Json => format!("{:#}\n", value()),
        Format::Yaml => yaml::write(&value())?,
    })
}

/// Prints a value for programs, or the text for people.
pub fn print_as(
    format: Format,
    value: impl FnOnce() -> Value,
    text: impl FnOnce(bool) -> String,
) -> ExitCode {
    match text_as(format, value, text) {
        Ok(text) => print(&text),
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Columns below their headings, as wide as their widest cell.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let all = || std::iter::once(&headings).chain(rows);
    let width =
        |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(column, cell)| format!("{cell:width$}", width = width(column).unwrap_or(0)));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    all().map(line).collect()
}

/// A figure with its thousands apart.
pub fn figure(amount: u64) -> String {
    let digits = amount.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An amount of a limit's unit for people.
pub fn shown(unit: Unit, amount: u64) -> String {
    if unit == Unit::Dollars { amount_of(unit, amount) } else { figure(amount) }
}

/// An amount for programs: of dollars a decimal as text, which no program rounds.
pub fn number(unit: Unit, amount: u64) -> Value {
    match unit {
        Unit::Dollars => json!(format!("{}.{:09}", amount / NANODOLLARS, amount % NANODOLLARS)),
        _ => json!(amount),
    }
}

/// A limit's window or period in words.
pub fn window_of(limit: &LimitConfig) -> String {
    match &limit.period {
        Some(period) => format!("{:?}, {}", period.kind, period.time_zone),
        None if limit.unit == Unit::ConcurrentRequests => window(0),
        None => window(limit.window.as_secs()),
    }
}

/// A window for people: its length in the largest unit that divides it.
pub fn window(seconds: u64) -> String {
    match seconds {
        0 => "at once".to_owned(),
        1 => "second".to_owned(),
        60 => "minute".to_owned(),
        3600 => "hour".to_owned(),
        86_400 => "day".to_owned(),
        _ if seconds.is_multiple_of(86_400) => format!("{} days", seconds / 86_400),
        _ if seconds.is_multiple_of(3600) => format!("{} hours", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{} minutes", seconds / 60),
        _ => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME   N\na      1\nlong\n");
        assert_eq!((figure(1_234_567).as_str(), figure(999).as_str()), ("1,234,567", "999"));
        assert_eq!((window(90).as_str(), window(172_800).as_str()), ("90 seconds", "2 days"));
    }
}
