//! The table at the end. Only builds text.

use std::env;
use std::io::{self, IsTerminal, Write};

pub(crate) struct Row {
    pub(crate) id: u32,
    pub(crate) title: &'static str,
    pub(crate) method: &'static str,
    /// One per person.
    pub(crate) cells: Vec<Cell>,
}

pub(crate) enum Cell {
    Answered(String),
    Denied(String),
}

/// Longer answers are cut, so that the table fits a terminal of 120 columns.
const LONGEST: usize = 25;

impl Cell {
    fn text(&self) -> String {
        let (mark, text) = match self {
            Cell::Answered(text) => ("✓", text),
            Cell::Denied(text) => ("✗", text),
        };
        let text = text.trim_end();
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{mark} {}…", &text[..end]),
            None => format!("{mark} {text}"),
        }
    }

    /// Green or red, as terminal escapes.
    fn colour(&self) -> &str {
        match self {
            Cell::Answered(_) => "\x1b[32m",
            Cell::Denied(_) => "\x1b[31m",
        }
    }
}

pub(crate) fn print(people: &[(&str, &str)], rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    let colours = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
    let width = |column: usize, head: &str| {
        let cells = rows
            .iter()
            .map(|row| row.cells[column].text().chars().count());
        cells.max().unwrap_or(0).max(head.len())
    };
    let heads: Vec<String> = people
        .iter()
        .map(|(name, role)| format!("{name} ({role})"))
        .collect();
    let widths: Vec<usize> = (0..)
        .zip(&heads)
        .map(|(column, head)| width(column, head))
        .collect();

    let mut line = format!("  id  {:<19}{:<18}", "request", "");
    for (head, width) in heads.iter().zip(&widths) {
        line += &format!("{head:<width$}  ");
    }
    writeln!(out, "{}", line.trim_end())?;
    writeln!(out, "  {}", "─".repeat(line.chars().count() - 4))?;
    for row in rows {
        let mut line = format!("  {:>2}  {:<19}{:<18}", row.id, row.title, row.method);
        for (cell, width) in row.cells.iter().zip(&widths) {
            let text = cell.text();
            // Outside the colour, so that it can be trimmed at the end of the line.
            let gap = " ".repeat(width + 2 - text.chars().count());
            let (on, off) = if colours {
                (cell.colour(), "\x1b[0m")
            } else {
                ("", "")
            };
            line += &format!("{on}{text}{off}{gap}");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
