//! Figures: medians and ratios to a yardstick, as a table and as JSON.

use serde_json::{Value, json};

/// The minimum, the median and the maximum of some figures.
#[derive(Clone, Copy)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| {
            let last = sorted.len().saturating_sub(1);
            sorted.get((last as f64 * part).round() as usize).copied()
        };
        Self {
            low: at(0.0).unwrap_or(f64::NAN),
            median: at(0.5).unwrap_or(f64::NAN),
            high: at(1.0).unwrap_or(f64::NAN),
        }
    }
}

/// The quantile `part` (0 to 1) of sorted figures.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted[(last as f64 * part).round() as usize]
}

/// How a figure is to be compared with its yardstick.
#[derive(Clone, Copy, PartialEq)]
pub enum Against {
    /// Divided by the yardstick's, round by round.
    Ratio,
    /// Minus the yardstick's, round by round.
    Difference,
}

/// The target of a figure, relative to its yardstick or absolute.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {limit}"),
            Self::AtLeast(limit) => format!("≥ {limit}"),
        }
    }
}

/// One line of the table.
pub struct Row {
    pub scenario: String,
    pub name: String,
    pub metric: &'static str,
    /// One value per round.
    pub values: Vec<f64>,
    /// The yardstick's name and values, for the same rounds.
    pub yardstick: Option<(String, Against, Vec<f64>)>,
    pub goal: Option<Goal>,
}

impl Row {
    fn compared(&self) -> Option<Spread> {
        let (_, against, yardstick) = self.yardstick.as_ref()?;
        let pairs = self.values.iter().zip(yardstick);
        let compared: Vec<f64> = match against {
            Against::Ratio => pairs.map(|(value, other)| value / other).collect(),
            Against::Difference => pairs.map(|(value, other)| value - other).collect(),
        };
        Some(Spread::of(&compared))
    }

    fn judged(&self) -> f64 {
        let spread = self.compared().unwrap_or_else(|| Spread::of(&self.values));
        spread.median
    }
}

/// All measurements.
#[derive(Default)]
pub struct Report(pub Vec<Row>);

impl Report {
    /// As a table in Markdown.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut scenario = "";
        for row in &self.0 {
            if row.scenario != scenario {
                scenario = &row.scenario;
                text += &format!(
                    "\n### {scenario}\n\n| what | figure | median | low … high | against | ratio | low … high | goal |\n|---|---|---|---|---|---|---|---|\n"
                );
            }
            let own = Spread::of(&row.values);
            let (name, ratio, spread) = match (&row.yardstick, row.compared()) {
                (Some((name, against, _)), Some(spread)) => {
                    let sign = if *against == Against::Ratio {
                        "×"
                    } else {
                        "+"
                    };
                    (
                        name.as_str(),
                        format!("{sign} {}", short(spread.median)),
                        format!("{} … {}", short(spread.low), short(spread.high)),
                    )
                }
                _ => ("", String::new(), String::new()),
            };
            let goal = row.goal.map_or_else(String::new, |goal| {
                let verdict = if goal.is_met(row.judged()) {
                    "met"
                } else {
                    "**missed**"
                };
                format!("{} {verdict}", goal.text())
            });
            text += &format!(
                "| {} | {} | {} | {} … {} | {name} | {ratio} | {spread} | {goal} |\n",
                row.name,
                row.metric,
                short(own.median),
                short(own.low),
                short(own.high),
            );
        }
        text
    }

    /// The same as JSON, with the values of every round.
    pub fn json(&self) -> Value {
        let rows = self.0.iter().map(|row| {
            let yardstick = row.yardstick.as_ref().map(|(name, against, values)| {
                let compared = row.compared().map(|spread| spread.median);
                let how = if *against == Against::Ratio {
                    "ratio"
                } else {
                    "difference"
                };
                json!({"name": name, "values": values, how: compared})
            });
            json!({
                "scenario": row.scenario,
                "name": row.name,
                "metric": row.metric,
                "values": row.values,
                "median": Spread::of(&row.values).median,
                "yardstick": yardstick,
                "goal": row.goal.map(Goal::text),
                "met": row.goal.map(|goal| goal.is_met(row.judged())),
            })
        });
        json!({ "rows": rows.collect::<Vec<_>>() })
    }
}

/// A number with three significant digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
