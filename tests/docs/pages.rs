//! The documents and their code blocks, each of which is checked by a test.

use crate::manifest;
use std::collections::BTreeMap;
use std::fs;

/// One document.
pub struct Page {
    /// Its path in the repository.
    pub path: String,
    pub text: String,
}

/// A code block.
pub struct Block {
    /// What follows the opening fence.
    pub language: String,
    /// The comment on the line before, which says how these tests treat the block.
    pub mark: String,
    pub text: String,
}

impl Block {
    /// `<!-- not run: … -->` exempts a block, and must give the reason.
    pub fn runs(&self) -> bool {
        self.language == "bash" && !self.mark.starts_with("<!-- not run: ")
    }
}

impl Page {
    pub fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut open) = (Vec::<Block>::new(), false);
        let mut before = "";
        for line in self.text.lines() {
            match (open, line.strip_prefix("```")) {
                (false, Some(language)) => {
                    let mark = if before.starts_with("<!--") {
                        before.to_owned()
                    } else {
                        String::new()
                    };
                    blocks.push(Block {
                        language: language.to_owned(),
                        mark,
                        text: String::new(),
                    });
                    open = true;
                }
                (true, Some(_)) => open = false,
                (true, None) => {
                    let block = blocks.last_mut().expect("a block is open");
                    block.text += line;
                    block.text.push('\n');
                }
                (false, None) => {}
            }
            before = line;
        }
        assert!(!open, "a block of {} has no end", self.path);
        blocks
    }

    /// The text under this heading, subsections included.
    pub fn section(&self, heading: &str) -> &str {
        let start = format!("\n{heading}\n");
        let level = heading.split(' ').next().unwrap_or_default();
        let Some((_, rest)) = self.text.split_once(&start) else {
            panic!("{} has no section {heading}", self.path);
        };
        let end = (1..=level.len())
            .filter_map(|level| rest.find(&format!("\n{} ", "#".repeat(level))))
            .min();
        &rest[..end.unwrap_or(rest.len())]
    }

    /// The text without its code blocks.
    pub fn without_blocks(&self) -> String {
        let mut open = false;
        let lines = self.text.lines().filter(|line| {
            let fence = line.starts_with("```");
            open ^= fence;
            !open && !fence
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// The page at this path.
pub fn page(path: &str) -> Page {
    let text = fs::read_to_string(manifest(path)).unwrap_or_else(|err| panic!("{path}: {err}"));
    Page {
        path: path.to_owned(),
        text,
    }
}

/// Every document: the Markdown files at the top of the repository and all of `docs/`.
pub fn pages() -> Vec<Page> {
    let mut paths: Vec<String> = ["", "docs/"]
        .iter()
        .flat_map(|folder| {
            let entries = fs::read_dir(manifest(folder)).expect("a folder");
            entries.map(move |entry| {
                let name = entry.expect("an entry").file_name();
                format!("{folder}{}", name.to_string_lossy())
            })
        })
        .filter(|path| path.ends_with(".md"))
        .collect();
    paths.sort();
    assert!(paths.len() > 12, "{paths:?}");
    paths.iter().map(|path| page(path)).collect()
}

/// The only block of the page with this mark.
pub fn marked(path: &str, mark: &str) -> Block {
    let blocks = page(path).blocks();
    let mut found: Vec<Block> = blocks.into_iter().filter(|it| it.mark == mark).collect();
    assert_eq!(found.len(), 1, "{path}: {mark}");
    found.remove(0)
}

/// How many blocks of each kind a page has: commands that are run, commands that are not, JSON, and
/// others that a test compares with what the program prints.
type Counts = [usize; 4];

/// A block that gets lost, or is no longer recognised, fails here.
const BLOCKS: [(&str, Counts); 14] = [
    ("CONTRIBUTING.md", [0, 2, 0, 0]),
    ("README.md", [9, 2, 3, 1]),
    ("docs/audit.md", [0, 0, 1, 0]),
    ("docs/client.md", [0, 2, 0, 0]),
    ("docs/install.md", [1, 1, 0, 0]),
    ("docs/migration.md", [2, 0, 0, 0]),
    ("docs/policy.md", [0, 1, 3, 3]),
    ("docs/server.md", [0, 2, 0, 0]),
    ("docs/sharing.md", [0, 1, 0, 0]),
    ("docs/tls.md", [0, 2, 0, 0]),
    ("docs/http.md", [0, 4, 2, 0]),
    ("docs/troubleshooting.md", [0, 0, 0, 2]),
    ("docs/tokens.md", [2, 2, 0, 0]),
    ("docs/wire.md", [0, 0, 1, 0]),
];

#[test]
fn every_block_is_counted() {
    let expected: BTreeMap<String, Counts> = BLOCKS
        .iter()
        .map(|(path, counts)| ((*path).to_owned(), *counts))
        .collect();
    let mut found = BTreeMap::new();
    for page in pages() {
        let blocks = page.blocks();
        let count = |wanted: &dyn Fn(&Block) -> bool| blocks.iter().filter(|it| wanted(it)).count();
        let counts = [
            count(&Block::runs),
            count(&|it| it.language == "bash" && !it.runs()),
            count(&|it| it.language.starts_with("json")),
            count(&|it| it.mark.starts_with("<!-- output of ")),
        ];
        for block in &blocks {
            let known = ["bash", "json", "jsonl", "text"].contains(&block.language.as_str());
            assert!(known, "{}: a block in {:?}", page.path, block.language);
        }
        if counts.iter().sum::<usize>() > 0 {
            found.insert(page.path.clone(), counts);
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn the_readme_is_a_first_page() {
    let lines = page("README.md").text.lines().count();
    assert!(lines <= 200, "{lines} lines");
}
