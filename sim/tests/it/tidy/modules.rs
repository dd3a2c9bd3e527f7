//! The modules of a crate as files, and which file names which other. By the text alone: what a
//! `use` imports and what a path in the code begins with. It expands no macro and resolves no type,
//! so a method that is called on a value counts for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

/// The names from a crate's root down to a module; the root is the empty one.
type ModulePath = Vec<String>;

/// One file, as a module.
pub(super) struct Module {
    /// Path from the workspace's root.
    pub file: String,
    /// Its items, those of tests included.
    pub syntax: syn::File,
}

/// The modules of one target: a library or a program.
pub(super) struct Modules {
    by_path: BTreeMap<ModulePath, Module>,
    /// Modules within a file, without a file of their own.
    inline: BTreeSet<ModulePath>,
    /// Files of modules that only tests have, and the folders below them: path from the root.
    of_tests: BTreeSet<String>,
}

/// What a name in a module stands for, if it is imported there.
struct Import {
    /// As whom; `None` for a glob.
    name: Option<String>,
    path: Vec<String>,
}

impl Modules {
    /// Reads what the root file declares, and so on down. Modules of tests are left out.
    pub(super) fn of(workspace: &Path, root: &str) -> Self {
        let mut modules = Self {
            by_path: BTreeMap::new(),
            inline: BTreeSet::new(),
            of_tests: BTreeSet::new(),
        };
        modules.read(workspace, &workspace.join(root), Vec::new());
        modules
    }

    fn read(&mut self, workspace: &Path, file: &Path, path: ModulePath) {
        let text = std::fs::read_to_string(file).unwrap();
        let syntax = syn::parse_file(&text).unwrap();
        let own_name = file.file_stem().unwrap().to_str().unwrap();
        let folder = file.parent().unwrap();
        // `lib.rs`, `main.rs` and `mod.rs` have their children beside them.
        let children = if path.is_empty() || own_name == "mod" {
            folder.to_path_buf()
        } else {
            folder.join(own_name)
        };
        self.declared(workspace, &syntax.items, &children, folder, &path);
        let file = file.strip_prefix(workspace).unwrap().display().to_string();
        self.by_path.insert(path, Module { file, syntax });
    }

    fn declared(
        &mut self,
        workspace: &Path,
        items: &[syn::Item],
        children: &Path,
        folder: &Path,
        path: &[String],
    ) {
        for item in items {
            let syn::Item::Mod(module) = item else {
                continue;
            };
            let name = module.ident.to_string();
            if is_of_tests(&module.attrs) {
                let beside = children.strip_prefix(workspace).unwrap().join(&name);
                self.of_tests.insert(beside.display().to_string());
                continue;
            }
            let mut below = path.to_vec();
            below.push(name.clone());
            if let Some((_, items)) = &module.content {
                self.declared(workspace, items, &children.join(&name), folder, &below);
                self.inline.insert(below);
                continue;
            }
            let file = match named_path(&module.attrs) {
                Some(named) => folder.join(named),
                None => first_that_is(&[
                    children.join(format!("{name}.rs")),
                    children.join(&name).join("mod.rs"),
                ]),
            };
            self.read(workspace, &file, below);
        }
    }

    /// Whether the file is, or stands below, a module that only tests have.
    pub(super) fn is_of_tests(&self, file: &str) -> bool {
        self.of_tests.iter().any(|module| {
            let rest = file.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    }

    /// Every file, sorted by module.
    pub(super) fn files(&self) -> impl Iterator<Item = &Module> {
        self.by_path.values()
    }

    /// Which file names which others. A file may name those above it in its own branch: they are
    /// the room that it stands in.
    pub(super) fn edges(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut edges = BTreeMap::new();
        for (path, module) in &self.by_path {
            let mut named = Named::default();
            named.visit_file(&module.syntax);
            let to: BTreeSet<_> = named
                .paths
                .iter()
                .filter_map(|(within, named)| {
                    let from: ModulePath = path.iter().chain(within).cloned().collect();
                    self.resolve(&from, named, 0)
                })
                .filter(|to| !path.starts_with(to))
                .map(|to| self.by_path[&to].file.clone())
                .collect();
            edges.insert(module.file.clone(), to);
        }
        edges
    }

    fn is_module(&self, path: &[String]) -> bool {
        self.by_path.contains_key(path) || self.inline.contains(path)
    }

    /// The module with a file that a path leads to, through what modules on the way import.
    fn resolve(&self, from: &[String], named: &[String], depth: u32) -> Option<ModulePath> {
        // Imports that lead in a ring are not the compiler's, so this ends; the bound is for speed.
        if depth > 8 {
            return None;
        }
        let mut rest = named.iter().peekable();
        let mut at: ModulePath = match rest.peek()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => from.to_vec(),
            first => {
                let child: ModulePath = from.iter().chain([&first.to_owned()]).cloned().collect();
                if !self.is_module(&child) {
                    return None;
                }
                from.to_vec()
            }
        };
        while let Some(name) = rest.next() {
            match name.as_str() {
                "crate" | "self" => continue,
                "super" => {
                    at.pop();
                    continue;
                }
                _ => {}
            }
            let below: ModulePath = at.iter().chain([name]).cloned().collect();
            if self.is_module(&below) {
                at = below;
                continue;
            }
            let rest: Vec<_> = rest.cloned().collect();
            return self
                .imported(&at, name, &rest, depth)
                .or_else(|| self.file_of(&at));
        }
        self.file_of(&at)
    }

    /// Where a name leads that the module has from elsewhere.
    fn imported(
        &self,
        at: &[String],
        name: &str,
        rest: &[String],
        depth: u32,
    ) -> Option<ModulePath> {
        let module = self.by_path.get(at)?;
        let imports = imports_of(&module.syntax.items);
        let named = imports
            .iter()
            .find(|import| import.name.as_deref() == Some(name));
        if let Some(import) = named {
            let path: Vec<_> = import.path.iter().chain(rest).cloned().collect();
            return self.resolve(at, &path, depth + 1);
        }
        let mut globs = imports.iter().filter(|import| import.name.is_none());
        globs.find_map(|glob| {
            let to = self.resolve(at, &glob.path, depth + 1)?;
            declares(&self.by_path[&to].syntax.items, name).then_some(to)
        })
    }

    fn file_of(&self, path: &[String]) -> Option<ModulePath> {
        (0..=path.len())
            .rev()
            .map(|length| path[..length].to_vec())
            .find(|path| self.by_path.contains_key(path))
    }
}

fn first_that_is(files: &[PathBuf]) -> PathBuf {
    let found = files.iter().find(|file| file.is_file());
    found
        .unwrap_or_else(|| panic!("none of {files:?} is"))
        .clone()
}

/// Whether only builds with tests have the item.
pub(super) fn is_of_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is = |name| attribute.path().is_ident(name);
        let is_test = match &attribute.meta {
            syn::Meta::List(list) => list.tokens.to_string() == "test",
            _ => false,
        };
        is("test") || is("cfg") && is_test
    })
}

/// What `#[path = ".."]` says.
fn named_path(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else {
            return None;
        };
        let syn::Expr::Lit(literal) = &pair.value else {
            return None;
        };
        match &literal.lit {
            syn::Lit::Str(text) if pair.path.is_ident("path") => Some(text.value()),
            _ => None,
        }
    })
}

fn imports_of(items: &[syn::Item]) -> Vec<Import> {
    let mut imports = Vec::new();
    for item in items {
        if let syn::Item::Use(item) = item {
            flatten(&item.tree, &mut Vec::new(), &mut imports);
        }
    }
    imports
}

fn flatten(tree: &syn::UseTree, before: &mut Vec<String>, imports: &mut Vec<Import>) {
    let mut leaf = |last: Option<&syn::Ident>, name: Option<String>| {
        let last = last.map(ToString::to_string);
        // `use a::{self}` is `use a`.
        let last = last.filter(|last| last != "self" || before.is_empty());
        let path: Vec<_> = before.iter().cloned().chain(last).collect();
        let name = name.map(|name| match name.as_str() {
            "self" => path.last().unwrap().clone(),
            _ => name,
        });
        imports.push(Import { name, path });
    };
    match tree {
        syn::UseTree::Name(name) => leaf(Some(&name.ident), Some(name.ident.to_string())),
        syn::UseTree::Rename(name) => leaf(Some(&name.ident), Some(name.rename.to_string())),
        syn::UseTree::Glob(_) => leaf(None, None),
        syn::UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, imports);
            before.pop();
        }
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, before, imports);
            }
        }
    }
}

fn declares(items: &[syn::Item], name: &str) -> bool {
    items.iter().any(|item| match item {
        syn::Item::Const(item) => item.ident == name,
        syn::Item::Enum(item) => item.ident == name,
        syn::Item::Fn(item) => item.sig.ident == name,
        syn::Item::Static(item) => item.ident == name,
        syn::Item::Struct(item) => item.ident == name,
        syn::Item::Trait(item) => item.ident == name,
        syn::Item::Type(item) => item.ident == name,
        _ => false,
    })
}

/// Paths that code outside tests names, with the inline modules that it stands in.
#[derive(Default)]
struct Named {
    within: ModulePath,
    paths: BTreeSet<(ModulePath, Vec<String>)>,
}

impl Named {
    fn found(&mut self, path: Vec<String>) {
        self.paths.insert((self.within.clone(), path));
    }

    /// A macro's input is no syntax tree yet.
    fn in_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        for token in tokens {
            match token {
                TokenTree::Group(group) => {
                    self.end(&mut path);
                    self.in_tokens(group.stream());
                }
                TokenTree::Ident(ident) => path.push(ident.to_string()),
                TokenTree::Punct(punct) if punct.as_char() == ':' => {}
                _ => self.end(&mut path),
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if path.len() > 1 && is_own(&path[0]) {
            self.found(path);
        }
    }
}

fn is_own(first: &str) -> bool {
    ["crate", "super", "self"].contains(&first)
}

impl<'s> Visit<'s> for Named {
    fn visit_item(&mut self, item: &'s syn::Item) {
        let attributes = match item {
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_of_tests(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'s syn::ItemMod) {
        self.within.push(module.ident.to_string());
        syn::visit::visit_item_mod(self, module);
        self.within.pop();
    }

    fn visit_item_use(&mut self, item: &'s syn::ItemUse) {
        let mut imports = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut imports);
        for import in imports {
            self.found(import.path);
        }
    }

    fn visit_path(&mut self, path: &'s syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if names.len() > 1 && is_own(&names[0]) {
            self.found(names);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'s syn::Macro) {
        self.in_tokens(called.tokens.clone());
    }
}

/// Groups of more than one file that name each other in a ring, sorted.
pub(super) fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = edges
        .keys()
        .map(|from| (from, reached_from(edges, from)))
        .collect();
    let mut circles = BTreeSet::new();
    for (from, to) in &reached {
        let ring: Vec<String> = to
            .iter()
            .filter(|other| reached[*other].contains(from))
            .map(|other| (*other).clone())
            .collect();
        if ring.len() > 1 {
            circles.insert(ring);
        }
    }
    circles.into_iter().collect()
}

fn reached_from<'e>(
    edges: &'e BTreeMap<String, BTreeSet<String>>,
    from: &String,
) -> BTreeSet<&'e String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&String> = edges[from].iter().collect();
    while let Some(file) = open.pop() {
        if reached.insert(file) {
            open.extend(&edges[file]);
        }
    }
    reached
}
