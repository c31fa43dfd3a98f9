//! Curves as SVG, both axes logarithmic: proportional growth is a straight line parallel to
//! the grid's diagonals, no growth is level.

use crate::report::{Spread, short};
use std::fmt::Write;

/// A curve: its name, and the measurements for each `x`.
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, Spread)>,
}

/// A plot of several curves.
pub struct Plot {
    /// Also the file name.
    pub name: &'static str,
    pub title: &'static str,
    pub x: &'static str,
    pub y: &'static str,
    pub curves: Vec<Curve>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 48.0;
/// Distinguishable by the colour-blind.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#777777"];

/// A logarithmic axis from one power of ten to another.
struct Axis {
    low: i32,
    high: i32,
    /// Where it begins and ends in the plot.
    ends: (f64, f64),
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, ends: (f64, f64)) -> Self {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let low = low.log10().floor() as i32;
        let high = (high.log10().ceil() as i32).max(low + 1);
        Self { low, high, ends }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.ends.0 + part * (self.ends.1 - self.ends.0)
    }

    fn decades(&self) -> impl Iterator<Item = (f64, f64)> {
        (self.low..=self.high).map(|power| {
            let value = 10f64.powi(power);
            (value, self.at(value))
        })
    }
}

/// `1 k` for a thousand.
fn tick(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e3 => format!("{} k", value / 1e3),
        value => value.to_string(),
    }
}

impl Plot {
    /// The plot, with bars from the lowest to the highest measurement.
    pub fn svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let x = Axis::over(points().map(|(x, _)| *x), (LEFT, WIDTH - RIGHT));
        let y = Axis::over(
            points().flat_map(|(_, y)| [y.low, y.high]),
            (HEIGHT - BOTTOM, TOP),
        );
        let (top, bottom, right) = (TOP, HEIGHT - BOTTOM, WIDTH - RIGHT);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"14\" font-weight=\"bold\">{}</text>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            self.title,
            (LEFT + right) / 2.0,
            HEIGHT - 12.0,
            self.x,
            (top + bottom) / 2.0,
            self.y,
        );
        let mut draw = |arguments: std::fmt::Arguments<'_>| {
            svg.write_fmt(arguments).expect("a string takes everything");
        };
        for (value, at) in x.decades() {
            draw(format_args!(
                "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#ddd\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                bottom + 16.0,
                tick(value),
            ));
        }
        for (value, at) in y.decades() {
            draw(format_args!(
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT - 6.0,
                at + 4.0,
                tick(value),
            ));
        }
        for (number, curve) in self.curves.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let line: Vec<String> = curve
                .points
                .iter()
                .map(|(at, value)| format!("{:.1},{:.1}", x.at(*at), y.at(value.median)))
                .collect();
            draw(format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
                line.join(" ")
            ));
            for (at, value) in &curve.points {
                let (at, middle) = (x.at(*at), y.at(value.median));
                draw(format_args!(
                    "<path d=\"M{at:.1} {:.1}V{:.1}\" stroke=\"{colour}\"/>\
                     <circle cx=\"{at:.1}\" cy=\"{middle:.1}\" r=\"3\" fill=\"{colour}\"/>\n",
                    y.at(value.low),
                    y.at(value.high),
                ));
            }
            let key = top + 10.0 + 20.0 * number as f64;
            draw(format_args!(
                "<path d=\"M{} {key}h18\" stroke=\"{colour}\" stroke-width=\"2\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text>\n",
                right + 10.0,
                right + 34.0,
                key + 4.0,
                curve.name,
            ));
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The medians, as a table in Markdown.
    pub fn table(&self) -> String {
        let mut text = format!("\n### {}, {}\n\n| {} |", self.title, self.y, self.x);
        for curve in &self.curves {
            text += &format!(" {} |", curve.name);
        }
        text += &format!("\n|---|{}\n", "---|".repeat(self.curves.len()));
        let rows = self.curves.iter().map(|curve| curve.points.len()).max();
        for row in 0..rows.unwrap_or(0) {
            let at = self.curves.iter().find_map(|curve| curve.points.get(row));
            text += &format!("| {} |", at.map_or_else(String::new, |(x, _)| tick(*x)));
            for curve in &self.curves {
                let value = curve.points.get(row);
                text += &value.map_or_else(String::new, |(_, y)| format!(" {} |", short(y.median)));
            }
            text += "\n";
        }
        text
    }
}
