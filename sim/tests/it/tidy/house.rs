//! How the house stands: no ring of files that name each other, no file that nobody names, short
//! functions, short comment lines, one type for one word. Each list of exceptions may only shrink.

use std::collections::{BTreeMap, BTreeSet};

use syn::spanned::Spanned as _;
use syn::visit::Visit;

use super::modules::{Modules, circles, is_of_tests};
use super::{root, sources};

/// The roots of all targets that are shipped or simulate.
const TARGETS: [(&str, &str); 10] = [
    ("allocator/src", "allocator/src/lib.rs"),
    ("allocator/src", "allocator/src/bin/berth.rs"),
    ("allocator/src", "allocator/src/bin/berthd.rs"),
    ("allocator/src", "allocator/src/bin/kubectl-berth/main.rs"),
    ("models/src", "models/src/lib.rs"),
    ("reports/src", "reports/src/lib.rs"),
    ("sim/engine/src", "sim/engine/src/lib.rs"),
    ("sim/src", "sim/src/lib.rs"),
    ("sim/src", "sim/src/main.rs"),
    ("traces/src", "traces/src/lib.rs"),
];

/// Units: lines, from the first of the signature to the last brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Units: characters.
const COMMENT_COLUMNS_MAX: usize = 100;

/// Files that stand in a ring of imports.
const IN_A_RING: [&str; 0] = [];

/// Functions over the limit, with their lines.
const LONG_FUNCTIONS: [(&str, &str, usize); 0] = [];

/// Files with comment lines over the limit, and how many.
const LONG_COMMENTS: [(&str, usize); 0] = [];

/// Words that once stood for many things: types of that name in all sources.
const ONE_WORD: [(&str, usize); 3] = [("Step", 4), ("Wait", 1), ("World", 4)];

#[test]
fn no_files_name_each_other_in_a_ring() {
    let mut found = BTreeSet::new();
    for (_, target) in TARGETS {
        for ring in circles(&Modules::of(&root(), target).edges()) {
            println!("a ring of {}: {ring:#?}", ring.len());
            found.extend(ring);
        }
    }
    println!(
        "files in rings: {} listed, {} found",
        IN_A_RING.len(),
        found.len()
    );
    let listed: BTreeSet<_> = IN_A_RING.map(str::to_owned).into();
    assert_eq!(
        found, listed,
        "found and listed differ: open the ring, or shrink the list"
    );
}

#[test]
fn every_file_is_a_module_of_something() {
    let targets: Vec<_> = TARGETS
        .iter()
        .map(|(folder, target)| (*folder, Modules::of(&root(), target)))
        .collect();
    for (folder, _) in &targets {
        for (name, _) in sources(folder) {
            let is_known = targets.iter().any(|(_, modules)| {
                modules.is_of_tests(&name) || modules.files().any(|module| module.file == name)
            });
            assert!(
                is_known,
                "{name}: no module declares it, so no compiler reads it"
            );
        }
    }
}

/// Lines of each function, by name.
#[derive(Default)]
struct Functions(Vec<(String, usize)>);

impl Functions {
    fn found(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let last = block.span().end().line;
        self.0.push((signature.ident.to_string(), last + 1 - first));
    }
}

impl<'s> Visit<'s> for Functions {
    fn visit_item_mod(&mut self, module: &'s syn::ItemMod) {
        if !is_of_tests(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'s syn::ItemFn) {
        self.found(&function.sig, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'s syn::ImplItemFn) {
        self.found(&function.sig, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }
}

#[test]
fn functions_fit_on_a_screen() {
    let mut found = Vec::new();
    for (_, target) in TARGETS {
        for module in Modules::of(&root(), target).files() {
            let mut functions = Functions::default();
            functions.visit_file(&module.syntax);
            let long = functions
                .0
                .into_iter()
                .filter(|(_, lines)| *lines > FUNCTION_LINES_MAX);
            found.extend(long.map(|(name, lines)| (module.file.clone(), name, lines)));
        }
    }
    found.sort();
    println!(
        "functions over {FUNCTION_LINES_MAX} lines: {} listed, {} found",
        LONG_FUNCTIONS.len(),
        found.len()
    );
    let listed = LONG_FUNCTIONS.map(|(file, name, lines)| (file.into(), name.into(), lines));
    assert_eq!(
        found, listed,
        "found and listed differ: cut the function, or shrink the list"
    );
}

#[test]
fn comments_fit_in_their_columns() {
    let mut found = Vec::new();
    for folder in ["allocator", "models", "reports", "sim", "traces"] {
        for (name, text) in sources(folder) {
            let is_long = |line: &&str| {
                line.trim_start().starts_with("//") && line.chars().count() > COMMENT_COLUMNS_MAX
            };
            // Neither an address nor a row of a table can be broken.
            let is_breakable =
                |line: &&str| !line.contains("://") && !line.trim_end().ends_with('|');
            let long = text.lines().filter(is_long).filter(is_breakable);
            let count = long.count();
            if count > 0 {
                found.push((name, count));
            }
        }
    }
    let total = |list: &[(String, usize)]| list.iter().map(|(_, count)| count).sum::<usize>();
    let listed: Vec<_> = LONG_COMMENTS
        .map(|(file, count)| (file.to_owned(), count))
        .into();
    println!(
        "comment lines over {COMMENT_COLUMNS_MAX} columns: {} listed, {} found",
        total(&listed),
        total(&found)
    );
    assert_eq!(
        found, listed,
        "found and listed differ: wrap the lines, or shrink the list"
    );
}

#[test]
fn one_word_stands_for_one_thing() {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for (_, target) in TARGETS {
        for module in Modules::of(&root(), target).files() {
            for item in &module.syntax.items {
                let name = match item {
                    syn::Item::Enum(item) => item.ident.to_string(),
                    syn::Item::Struct(item) => item.ident.to_string(),
                    syn::Item::Trait(item) => item.ident.to_string(),
                    _ => continue,
                };
                *found.entry(name).or_default() += 1;
            }
        }
    }
    for (word, most) in ONE_WORD {
        let count = found.get(word).copied().unwrap_or(0);
        println!("types called {word}: {count}");
        assert_eq!(
            count, most,
            "types called {word}: give it a name that says whose, and shrink"
        );
    }
}
