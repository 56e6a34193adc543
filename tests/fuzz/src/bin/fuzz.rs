//! libFuzzer on the target that the variable `TARGET` names. With `SEEDS=FOLDER` it writes good inputs of the target
//! there, for a run to begin with; without a target it names all of them, and the longest input of each.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use fuzzed_input::{TARGETS, Target, target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("TARGET").unwrap_or_else(|_| {
        TARGETS.iter().for_each(|target| println!("{} {}", target.name, target.longest));
        std::process::exit(0)
    });
    target(&name).unwrap_or_else(|| panic!("TARGET={name} is no target"))
});

fn write_seeds(folder: &Path) {
    for (number, seed) in TARGET.seeds().iter().enumerate() {
        if let Err(error) = std::fs::write(folder.join(format!("seed-{number}")), seed) {
            panic!("{}: {error}", folder.display());
        }
    }
}

libfuzzer_sys::fuzz_target!(
    init: {
        let target = *TARGET;
        if let Some(folder) = std::env::var_os("SEEDS") {
            write_seeds(Path::new(&folder));
            println!("{} has {} seeds", target.name, target.seeds().len());
            std::process::exit(0);
        }
    },
    |data: &[u8]| (TARGET.read)(data)
);
