//! Relative links and anchors exist.

use crate::manifest;
use crate::pages::{page, pages};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// The anchors that GitHub generates for the headings.
fn anchors(path: &str) -> BTreeSet<String> {
    let text = page(path).without_blocks();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = words
                .chars()
                .filter(|it| it.is_alphanumeric() || " -_".contains(*it));
            kept.map(|it| if it == ' ' { '-' } else { it }).collect()
        })
        .collect()
}

/// The path without `.` and `..`, relative to the repository.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} leaves", path.display()),
            Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    plain
}

#[test]
fn links_lead_somewhere() {
    let mut pages = pages();
    pages.extend(["benches/README.md", "examples/hosts/README.md"].map(page));
    let mut checked = 0;
    for page in pages {
        let text = page.without_blocks();
        let folder = Path::new(&page.path).parent().expect("a file");
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().expect("the first part");
            if link.starts_with("https://") {
                continue;
            }
            checked += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => PathBuf::from(&page.path),
                path => plain(&folder.join(path)),
            };
            let target = target.to_str().expect("UTF-8");
            assert!(manifest(target).exists(), "{}: {link}", page.path);
            let found = anchor.is_empty() || anchors(target).contains(anchor);
            assert!(found, "{}: {link}", page.path);
        }
    }
    assert!(checked > 60, "{checked}");
}

#[test]
fn every_document_is_in_the_index() {
    let index = page("docs/README.md").text;
    let readme = page("README.md").text;
    let book = page("docs/SUMMARY.md").text;
    for page in pages() {
        // It is the table of contents of the book, not a page.
        if page.path == "docs/SUMMARY.md" {
            continue;
        }
        if let Some(name) = page.path.strip_prefix("docs/") {
            let listed = name == "README.md" || index.contains(&format!("]({name})"));
            assert!(listed, "docs/README.md has no link to {name}");
            let listed = book.contains(&format!("]({name})"));
            assert!(listed, "docs/SUMMARY.md has no link to {name}");
        }
        let path = &page.path;
        let listed = path == "README.md" || readme.contains(&format!("]({path})"));
        assert!(listed, "README.md has no link to {path}");
    }
}
