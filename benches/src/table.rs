//! Figure, peer, ratio, target, as a Markdown table that is also easy to read on a terminal.

use std::fmt::Write;

use crate::rounds::Spread;

/// What a figure is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Nanos,
    /// Microseconds.
    Micros,
    /// Calls in a second.
    CallsPerSecond,
    /// Bytes.
    Bytes,
}

impl Unit {
    fn text(self) -> &'static str {
        match self {
            Unit::Nanos => "ns",
            Unit::Micros => "µs",
            Unit::CallsPerSecond => "calls/s",
            Unit::Bytes => "B",
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// What it is measured in.
    pub unit: Unit,
    /// Quotakeeper's figure.
    pub ours: Spread,
    /// Who did it beside, and its figure.
    pub peer: Option<(&'static str, Spread)>,
    /// What we want, if anything was set.
    pub target: Option<String>,
}

/// The table, its columns aligned.
pub fn render(rows: &[Row]) -> String {
    let heading = ["what", "Quotakeeper", "peer", "peer's", "ratio", "target"].map(str::to_owned);
    let mut lines = vec![heading];
    lines.extend(rows.iter().map(cells));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            widths.iter().for_each(|width| text.push_str(&format!("|{}", "-".repeat(width + 2))));
            text.push_str("|\n");
        }
    }
    text
}

fn cells(row: &Row) -> [String; 6] {
    let (peer, figure, ratio) = match &row.peer {
        Some((name, figure)) => {
            let ratio = format!("{:.2}", row.ours.median / figure.median);
            ((*name).to_owned(), spread(*figure, row.unit), ratio)
        }
        None => ("none".to_owned(), String::new(), String::new()),
    };
    let target = row.target.clone().unwrap_or_default();
    [row.what.clone(), spread(row.ours, row.unit), peer, figure, ratio, target]
}

/// The median, and the lowest and the highest round where they differ.
fn spread(spread: Spread, unit: Unit) -> String {
    let Spread { median, least, most } = spread;
    if least == most {
        return format!("{} {}", number(median), unit.text());
    }
    format!("{} {} ({} to {})", number(median), unit.text(), number(least), number(most))
}

/// Three digits are more than the machine repeats.
fn number(figure: f64) -> String {
    if figure.abs() < 9.95 { format!("{figure:.1}") } else { format!("{figure:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: Option<(&'static str, Spread)>) -> Row {
        let ours = Spread { median: 500.0, least: 490.0, most: 600.4 };
        Row { what: "a call".to_owned(), unit: Unit::Nanos, ours, peer, target: Some("≤ 1 µs".to_owned()) }
    }

    #[test]
    fn a_row_tells_figure_peer_ratio_and_target() {
        let peer = Spread { median: 250.0, least: 250.0, most: 250.0 };
        let text = render(&[row(Some(("governor", peer)))]);
        let last = text.lines().last().unwrap_or_default().to_owned();
        assert_eq!(last, "| a call | 500 ns (490 to 600) | governor | 250 ns | 2.00  | ≤ 1 µs |");
    }

    #[test]
    fn without_a_peer_there_is_no_ratio_and_columns_stay_aligned() {
        let text = render(&[row(None)]);
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [widths[0]; 3]);
        assert!(text.contains("| none |"));
    }
}
