//! Embeds `providers/*.yaml` for `catalogue.rs`, so that a provider is added by adding its file.
//!
//! Macros that embed a folder do not notice a new file; Cargo runs this script again. It writes the texts themselves,
//! because their paths would be those of whichever checkout last used the target directory.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=providers");
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("providers");
    let mut files = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>, std::io::Error>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort_by(|one, other| one.file_stem().cmp(&other.file_stem()));
    let mut list = String::from("&[\n");
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(&file)?;
        writeln!(list, "    ({name:?}, {text:?}),")?;
    }
    list.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("catalogue.rs"), list)?;
    Ok(())
}
