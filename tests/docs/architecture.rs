//! ARCHITECTURE.md names only what exists, and leaves no module out.

use crate::manifest;
use crate::pages::page;
use std::fs;

/// The texts in backticks.
fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn named_files_exist() {
    let text = page("ARCHITECTURE.md").without_blocks();
    let folders = ["src/", "tests/", "benches/", "examples/"];
    let paths = code(&text);
    let paths = paths
        .iter()
        .filter(|it| folders.iter().any(|folder| it.starts_with(folder)));
    let missing: Vec<_> = paths.clone().filter(|it| !manifest(it).exists()).collect();
    assert!(paths.count() > 40);
    assert!(missing.is_empty(), "ARCHITECTURE.md names {missing:?}");
}

#[test]
fn the_map_has_every_module() {
    let text = page("ARCHITECTURE.md").text;
    for entry in fs::read_dir(manifest("src")).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        let folder = entry.path().is_dir();
        let test = !folder && name == "lib.rs";
        let is_tests_only = folder && manifest(&format!("src/{name}.rs")).exists();
        let row = format!("| `src/{name}{}` |", if folder { "/" } else { "" });
        let listed = test || is_tests_only || text.contains(&row);
        assert!(listed, "ARCHITECTURE.md has no row {row}");
    }
}

#[test]
fn functions_on_the_way_of_a_message_exist() {
    let text = page("ARCHITECTURE.md").text;
    let steps = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let is_step = cells.len() == 6 && cells[1].parse::<u8>().is_ok();
        is_step.then(|| (code(cells[2]).concat(), code(cells[3]).concat()))
    });
    let mut checked = 0;
    for (file, function) in steps {
        checked += 1;
        let source = fs::read_to_string(manifest(&file)).unwrap_or_default();
        let defined = ["(", "<"]
            .iter()
            .any(|open| source.contains(&format!("fn {function}{open}")));
        assert!(
            defined,
            "ARCHITECTURE.md names {function} in {file}, which has none"
        );
    }
    assert!(checked > 15, "{checked}");
}
