//! Line plots with two logarithmic axes, as SVG. Written by hand, because the plotting crates there are either had no release for years or
//! bring a font renderer along. Colours and greys are such that they read on white and on black.

use std::fmt::Write as _;

use crate::outcome::{FLOOR, OURS};

/// One line.
pub(crate) struct Series {
    pub(crate) name: String,
    /// From left to right; none is 0 or less, which has no place on a logarithmic axis.
    pub(crate) points: Vec<(f64, f64)>,
}

/// One plot of a picture.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    /// What is along the bottom.
    pub(crate) axis: &'static str,
    pub(crate) series: Vec<Series>,
}

const PANEL_WIDTH: f64 = 440.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 92.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 46.0;

/// Names at the ends of lines keep this distance.
const LINE_HEIGHT: f64 = 14.0;

const OUR_COLOUR: &str = "#e8590c";
const OTHER_COLOURS: [&str; 4] = ["#1c7ed6", "#2f9e44", "#9c36b5", "#b8860b"];
const GREY: &str = "#7d858c";

/// The panels beside each other.
pub(crate) fn svg(panels: &[Panel]) -> String {
    let width = PANEL_WIDTH * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"{GREY}\">\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate({} 0)\">", PANEL_WIDTH * index as f64);
        panel.draw(&mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

impl Panel {
    fn draw(&self, out: &mut String) {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Axis::over(points().map(|point| point.0), LEFT, PANEL_WIDTH - RIGHT);
        let y = Axis::over(points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        self.frame(out, &x, &y);
        let mut labels = Vec::new();
        let mut others = OTHER_COLOURS.iter().cycle();
        for series in &self.series {
            let colour = match series.name.as_str() {
                OURS => OUR_COLOUR,
                FLOOR => GREY,
                _ => others.next().unwrap_or(&GREY),
            };
            if let (OURS, Some(first)) = (series.name.as_str(), series.points.first()) {
                guide(out, &x, &y, *first);
            }
            let path: Vec<String> = series
                .points
                .iter()
                .map(|point| format!("{:.1},{:.1}", x.at(point.0), y.at(point.1)))
                .collect();
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            for point in &path {
                let (cx, cy) = point.split_once(',').unwrap_or_default();
                let _ = writeln!(out, "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"3\" fill=\"{colour}\"/>");
            }
            if let Some(end) = series.points.last() {
                labels.push((y.at(end.1), x.at(end.0), series.name.as_str(), colour));
            }
        }
        names(out, labels);
    }

    /// Title, grid and what is along the axes.
    fn frame(&self, out: &mut String, x: &Axis, y: &Axis) {
        let (right, bottom) = (PANEL_WIDTH - RIGHT, HEIGHT - BOTTOM);
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"{}\" font-size=\"14\" font-weight=\"bold\">{}</text>",
            TOP - 16.0,
            self.title
        );
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 8.0,
            self.axis
        );
        for tick in x.ticks() {
            let at = x.at(tick);
            grid(out, (at, TOP), (at, bottom));
            let (text, below) = (short(tick), bottom + 17.0);
            let _ = writeln!(
                out,
                "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{text}</text>"
            );
        }
        for tick in y.ticks() {
            let at = y.at(tick);
            grid(out, (LEFT, at), (right, at));
            let (text, left) = (short(tick), LEFT - 6.0);
            let _ = writeln!(
                out,
                "<text x=\"{left}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                at + 4.0
            );
        }
    }
}

fn grid(out: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{GREY}\" stroke-opacity=\"0.35\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// Twice the work for twice the cost, from a point on: whatever is steeper grows faster than the work.
fn guide(out: &mut String, x: &Axis, y: &Axis, (from_x, from_y): (f64, f64)) {
    let factor = (x.to / from_x).min(y.to / from_y);
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{GREY}\" stroke-dasharray=\"3 4\"/>",
        x.at(from_x),
        y.at(from_y),
        x.at(from_x * factor),
        y.at(from_y * factor)
    );
}

/// The lines' names at their ends, moved apart where they would cover each other.
fn names(out: &mut String, mut labels: Vec<(f64, f64, &str, &str)>) {
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free_from = f64::MIN;
    for (at, x, name, colour) in labels {
        let y = at.max(free_from);
        free_from = y + LINE_HEIGHT;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            x + 8.0,
            y + 4.0
        );
    }
}

/// A logarithmic axis, from one place in the picture to another. It begins and ends at 1, 2 or 5 times a power of ten.
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Axis {
        let positive = values.filter(|value| *value > 0.0);
        let (least, most) = positive.fold((f64::MAX, f64::MIN_POSITIVE), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        let (from, to) = if least > most {
            (1.0, 10.0)
        } else {
            let below = steps(least).filter(|step| *step <= least * ROUNDING).last();
            let above = steps(most).find(|step| *step * ROUNDING >= most);
            (below.unwrap_or(least), above.unwrap_or(most))
        };
        Axis {
            from,
            to: to.max(from * 2.0),
            start,
            end,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(self.from) / self.from).log10() / (self.to / self.from).log10();
        self.start + share.min(1.0) * (self.end - self.start)
    }

    /// Where the grid's lines are: at the powers of ten or, on a short axis, also at 2 and 5 times those.
    fn ticks(&self) -> Vec<f64> {
        let decades = (self.to / self.from).log10();
        let first = self.from.log10().floor() as i32;
        (0..=decades.ceil() as i32 + 1)
            .flat_map(|decade| steps(10_f64.powi(first + decade)).take(3))
            .filter(|tick| decades < SHORT_AXIS_DECADES || is_power_of_ten(*tick))
            .filter(|tick| (self.from..=self.to * ROUNDING).contains(&(tick * ROUNDING)))
            .collect()
    }
}

/// An axis of less than so many decades has lines between them.
const SHORT_AXIS_DECADES: f64 = 2.0;

/// What powers of ten are wrong by, and more.
const ROUNDING: f64 = 1.000_001;

/// 1, 2, 5 and 10 times the power of ten below a value.
fn steps(value: f64) -> impl Iterator<Item = f64> {
    let decade = 10_f64.powf((value * ROUNDING).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(move |times| times * decade)
}

fn is_power_of_ten(value: f64) -> bool {
    let exponent = value.log10();
    (exponent - exponent.round()).abs() < 1e-4
}

/// 10000 → 10 k.
fn short(value: f64) -> String {
    match value {
        v if v >= 999_999.0 => format!("{:.0} M", v / 1e6),
        v if v >= 999.9 => format!("{:.0} k", v / 1e3),
        v if v >= 0.999 => format!("{v:.0}"),
        v => format!("{v:.*}", (-v.log10()).round() as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers_and_put_their_ends_at_the_ends() {
        let axis = Axis::over([20.0, 3_000.0].into_iter(), 100.0, 400.0);
        assert_eq!((axis.from.round(), axis.to.round()), (20.0, 5_000.0));
        assert_eq!((axis.at(20.0), axis.at(axis.to)), (100.0, 400.0));
        let axis = Axis::over([10.0, 10_000.0].into_iter(), 100.0, 400.0);
        assert!((axis.at(100.0) - 200.0).abs() < 0.001);
    }

    #[test]
    fn long_axes_have_lines_at_powers_of_ten_and_short_ones_between_them() {
        let check = |least, most, ticks: &[f64]| {
            let axis = Axis::over([least, most].into_iter(), 0.0, 1.0);
            let rounded: Vec<f64> = axis
                .ticks()
                .iter()
                .map(|tick| (tick * 1000.0).round() / 1000.0)
                .collect();
            assert_eq!(rounded, ticks);
        };
        check(10_000.0, 2_000_000.0, &[10_000.0, 100_000.0, 1_000_000.0]);
        check(0.002, 0.3, &[0.01, 0.1]);
        check(12.0, 60.0, &[10.0, 20.0, 50.0, 100.0]);
    }

    #[test]
    fn values_without_a_logarithm_end_on_the_axis() {
        let axis = Axis::over([0.0, -1.0].into_iter(), 0.0, 10.0);
        assert_eq!(axis.at(0.0), 0.0);
        assert_eq!(Axis::over([].into_iter(), 0.0, 10.0).at(1e9), 10.0);
    }

    #[test]
    fn decades_are_named_shortly() {
        for (value, text) in [
            (0.001, "0.001"),
            (0.1, "0.1"),
            (1.0, "1"),
            (100.0, "100"),
            (1e4, "10 k"),
            (1e6, "1 M"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn every_line_is_drawn_and_named_and_names_do_not_cover_each_other() {
        let line = |name: &str| Series {
            name: name.to_owned(),
            points: vec![(10.0, 1.0), (100.0, 2.0)],
        };
        let panel = Panel {
            title: "t",
            axis: "a",
            series: vec![line("one"), line("two")],
        };
        let text = svg(&[panel]);
        assert_eq!(text.matches("<polyline").count(), 2);
        let height = |name: &str| {
            let label = text
                .lines()
                .find(|l| l.ends_with(&format!(">{name}</text>")))
                .unwrap_or_default();
            let y = label
                .split("y=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next()?.parse::<f64>().ok());
            y.unwrap_or_default()
        };
        assert!((height("one") - height("two")).abs() >= LINE_HEIGHT);
    }
}
