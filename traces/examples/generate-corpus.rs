//! Writes the stored manifests of `traces/corpus/` anew. Run it after a change of the generator.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (path, text) in drydock_traces::corpus::generate::files() {
        std::fs::write(corpus.join(path), text)?;
    }
    Ok(())
}
