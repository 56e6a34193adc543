//! Plots of how limits of tokens fare, for the documentation: what `simulate plots` draws.

use std::error::Error;
use std::path::Path;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use quotakeeper_engine::config::{CountedAs, Reserving};

use crate::report::Report;
use crate::stories::tokens::steady::{PRODUCED, Steady, UNKNOWN};

const SIZE: (u32, u32) = (760, 400);
const FONT: &str = "sans-serif";
/// Seconds that an answer takes on average.
const ANSWERS: [u64; 7] = [1, 2, 5, 10, 15, 20, 30];
/// The world that is drawn.
const SEED: u64 = 0;
const ONE: RGBColor = RGBColor(31, 95, 160);
const ANOTHER: RGBColor = RGBColor(34, 128, 84);
const THIRD: RGBColor = RGBColor(190, 60, 50);

type Outcome = Result<(), Box<dyn Error>>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Loads of a kind, and how they are drawn.
struct Series {
    name: &'static str,
    color: RGBColor,
    load: Steady,
}

/// Draws all of them into a folder.
pub fn draw(folder: &Path) -> Outcome {
    use_by_answers(&folder.join("use-by-length-of-answers.svg"))?;
    cold_start(&folder.join("use-after-a-cold-start.svg"))
}

fn chart<'a, 'b>(
    root: &'a DrawingArea<SVGBackend<'b>, plotters::coord::Shift>,
    (x, most): (&str, f64),
    y: &str,
) -> Result<Chart<'a, 'b>, Box<dyn Error>>
where
    'b: 'a,
{
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(root)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..most, 0.0..110.0)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style((FONT, 13))
        .draw()?;
    Ok(chart)
}

fn legend<'b: 'a, 'a>(chart: &mut Chart<'a, 'b>, place: SeriesLabelPosition) -> Outcome {
    chart
        .configure_series_labels()
        .position(place)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.2))
        .label_font((FONT, 13))
        .draw()?;
    Ok(())
}

fn line<'b: 'a, 'a>(chart: &mut Chart<'a, 'b>, series: &Series, points: Vec<(f64, f64)>) -> Outcome {
    let color = series.color;
    let drawn = chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
    drawn
        .label(series.name)
        .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(2)));
    Ok(())
}

fn percent(hundredths: u64) -> f64 {
    hundredths as f64 / 100.0
}

/// What is used and what could be, by how long answers take.
fn use_by_answers(file: &Path) -> Outcome {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    let mut chart = chart(&root, ("seconds that an answer takes on average", 32.0), "% of the limit used")?;
    for series in [
        Series { name: "bucket, as produced, learned", color: ONE, load: PRODUCED },
        Series { name: "not known how it counts, learned", color: ANOTHER, load: UNKNOWN },
        Series {
            name: "not known how it counts, the bound held",
            color: THIRD,
            load: Steady { reserving: Reserving::Bound, ..UNKNOWN },
        },
    ] {
        let loads = ANSWERS.map(|seconds| Steady { speed: series.load.output.0 / seconds, ..series.load });
        let reports = loads.map(|load| load.measure(SEED));
        let at = |place: usize| ANSWERS[place] as f64;
        let used = |report: &Report| percent(report.tokens_steady.unwrap_or(0));
        let could = reports.iter().zip(&loads).enumerate().map(|(place, (report, load))| {
            (at(place), load.could_use(used(report), percent(report.tokens_in_flight)))
        });
        line(&mut chart, &series, could.collect())?;
        let counted = reports.iter().enumerate().map(|(place, report)| (at(place), used(report)));
        chart.draw_series(counted.map(|point| Circle::new(point, 4, series.color.filled())))?;
    }
    legend(&mut chart, SeriesLabelPosition::LowerLeft)?;
    root.present()?;
    Ok(())
}

/// What is used of each window from the first call on.
fn cold_start(file: &Path) -> Outcome {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    let mut chart = chart(&root, ("minutes since the first call", 20.0), "% of the minute's limit used")?;
    let load = Steady { counted_as: CountedAs::SlidingWindow, output: (500, 16_000), ..UNKNOWN };
    for series in [
        Series { name: "what such calls use, once that is learned", color: ONE, load },
        Series {
            name: "always the bound: 16,000 tokens of max_tokens",
            color: THIRD,
            load: Steady { reserving: Reserving::Bound, ..load },
        },
    ] {
        let windows = series.load.measure(SEED).tokens_by_window;
        let middles = windows.iter().enumerate().map(|(place, used)| (place as f64 + 0.5, *used as f64));
        line(&mut chart, &series, middles.collect())?;
    }
    legend(&mut chart, SeriesLabelPosition::MiddleRight)?;
    root.present()?;
    Ok(())
}
