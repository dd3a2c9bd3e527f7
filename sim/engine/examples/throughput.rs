//! Prints the rates of `throughput` as the median of five; a development aid, not a command.
#![allow(clippy::print_stdout)]
fn main() {
    for _ in 0..5 {
        let t = drydock_engine::throughput::throughput();
        println!(
            "engine {}/s  bridged {}/s  madsim {}/s  ratio {} %  digest {}",
            t.engine.per_second(),
            t.bridged.per_second(),
            t.madsim.per_second(),
            t.engine.percent_of(&t.madsim),
            t.digest
        );
    }
}
