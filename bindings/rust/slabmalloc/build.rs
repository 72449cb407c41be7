// SPDX-License-Identifier: MIT
//
// Links slabmalloc: compiles this tree's sources, or takes a built library.
//
//   features              from the sources                     from SLABMALLOC_LIB_DIR
//   heap                  os/ arena/ malloc/ c_api/, without   (the library replaces malloc:
//                         the entry points of malloc            it needs the feature override)
//   heap + override       the same, with the entry points      libslabmalloc.a or .so
//   zones                 kernel_c_api/                        libslabmalloc_kernel.a
//
// src/CMakeLists.txt and src/kernel_c_api/CMakeLists.txt state flags and exceptions; this reads
// them there. The heap becomes one object whose hidden symbols are local, as CMake makes it. So it
// shares no symbol with zones, and a program gets all of malloc or nothing.
//
// Environment: SLABMALLOC_LIB_DIR, SLABMALLOC_PKG_CONFIG=1, CXX, CXXFLAGS, AR, OBJCOPY,
// SLABMALLOC_MAXIMUM_CPUS, and what cargo sets.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

fn main() {
    let crate_folder = PathBuf::from(variable("CARGO_MANIFEST_DIR").unwrap());
    let root = crate_folder.join("../../..").canonicalize().expect("the tree of slabmalloc");
    let out = PathBuf::from(variable("OUT_DIR").unwrap());
    for name in ["SLABMALLOC_LIB_DIR", "SLABMALLOC_PKG_CONFIG", "SLABMALLOC_MAXIMUM_CPUS"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    write_constants(&root, &out);

    let (heap, zones) = (has_feature("HEAP"), has_feature("ZONES"));
    if heap && variable("CARGO_CFG_TARGET_OS").as_deref() != Some("linux") {
        panic!("the feature `heap` needs Linux; kernels use `default-features = false`");
    }
    if let Some(folder) = variable("SLABMALLOC_LIB_DIR") {
        println!("cargo:rustc-link-search=native={folder}");
        link_built(&PathBuf::from(folder), heap, zones);
    } else {
        let from_package = heap && variable("SLABMALLOC_PKG_CONFIG").as_deref() == Some("1");
        if from_package {
            link_package();
        }
        if zones || (heap && !from_package) {
            let build = Build::new(root, out);
            if heap && !from_package {
                build.heap(has_feature("OVERRIDE"));
            }
            if zones {
                build.zones();
            }
        }
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn has_feature(name: &str) -> bool {
    env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}

// ---- a built library ----------------------------------------------------------------------------

fn require_override() {
    assert!(
        has_feature("OVERRIDE"),
        "a built libslabmalloc replaces malloc: switch on the feature `override`, \
         or unset SLABMALLOC_LIB_DIR and SLABMALLOC_PKG_CONFIG"
    );
}

fn link_built(folder: &Path, heap: bool, zones: bool) {
    let link = |name: &str| {
        let archive = folder.join(format!("lib{name}.a"));
        println!("cargo:rerun-if-changed={}", archive.display());
        let kind = if archive.exists() { "static" } else { "dylib" };
        println!("cargo:rustc-link-lib={kind}={name}");
    };
    if heap {
        require_override();
        link("slabmalloc");
    }
    if zones {
        link("slabmalloc_kernel");
    }
}

fn link_package() {
    require_override();
    let tool = variable("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(&tool).args(["--libs", "slabmalloc"]).output();
    let output = output.unwrap_or_else(|error| panic!("{tool}: {error}"));
    assert!(output.status.success(), "{tool} knows no slabmalloc");
    for word in String::from_utf8_lossy(&output.stdout).split_whitespace() {
        if let Some(folder) = word.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={folder}");
        } else if let Some(name) = word.strip_prefix("-l") {
            println!("cargo:rustc-link-lib={name}");
        }
    }
}

// ---- from the sources ---------------------------------------------------------------------------

struct Build {
    root: PathBuf,
    out: PathBuf,
    compiler: Vec<String>,
    flags: Vec<String>,
    is_gcc: bool,
}

impl Build {
    fn new(root: PathBuf, out: PathBuf) -> Build {
        let (host, target) = (variable("HOST").unwrap(), variable("TARGET").unwrap());
        println!("cargo:rerun-if-env-changed=CXX");
        let compiler = variable("CXX").unwrap_or_else(|| {
            assert!(host == target, "set CXX to a C++ compiler for {target}");
            "c++".into()
        });
        println!("cargo:rerun-if-env-changed=CXXFLAGS");
        println!("cargo:rerun-if-changed={}", root.join("src").display());
        println!("cargo:rerun-if-changed={}", root.join("include").display());
        let mut flags = vec![
            "-std=c++20".into(),
            format!("-O{}", variable("OPT_LEVEL").unwrap()),
            format!("-I{}", root.join("include").display()),
            format!("-I{}", root.join("src").display()),
        ];
        if variable("DEBUG").as_deref() == Some("true") {
            flags.push("-g".into());
        }
        flags.extend(words(&variable("CXXFLAGS").unwrap_or_default()));
        let mut build = Build { root, out, compiler: words(&compiler), flags, is_gcc: false };
        let version = build.command().arg("--version").output();
        let version = version.unwrap_or_else(|error| panic!("{compiler}: {error}"));
        build.is_gcc = !String::from_utf8_lossy(&version.stdout).contains("clang");
        build
    }

    /// libslabmalloc.a of one object.
    fn heap(&self, replaces_malloc: bool) {
        let lists = read(&self.root.join("src/CMakeLists.txt"));
        let left_out = |set: &str| -> Vec<String> {
            let names = words(between(&lists, &format!("set({set}"), ")"));
            assert!(!names.is_empty(), "src/CMakeLists.txt states no {set}");
            names.iter().map(|name| file_name(Path::new(name))).collect()
        };
        let entry_points = if replaces_malloc { Vec::new() } else { left_out("entry_points") };
        let is_gnu = variable("CARGO_CFG_TARGET_ENV").as_deref() == Some("gnu");
        let gnu_only =
            if replaces_malloc && is_gnu { Vec::new() } else { left_out("gnu_entry_points") };
        let others = [entry_points, gnu_only, left_out("hardened_sources")].concat();
        let mut flags = self.options(&lists, "target_compile_options(slabmalloc_flags", ")\n\n");
        assert!(!flags.is_empty(), "src/CMakeLists.txt states no options");
        flags.extend(self.options(&lists, "set(machine_code", ")"));
        flags.extend(words("-fPIC -fvisibility=hidden -fvisibility-inlines-hidden"));

        let mut units = Vec::new();
        for folder in ["os", "arena", "malloc", "c_api"] {
            for source in sources(&self.root.join("src").join(folder)) {
                let name = file_name(&source);
                if others.contains(&name) {
                    continue;
                }
                let property = format!("set_source_files_properties({folder}/{name} PROPERTIES");
                let mut own = flags.clone();
                own.extend(self.options(&lists, &property, ")"));
                units.push((source, own));
            }
        }
        let objects = self.compile("heap", &units);
        let whole = self.out.join("slabmalloc.o");
        let mut link = self.command();
        link.args(["-r", "-nostdlib", "-fuse-ld=bfd", "-Wl,--force-group-allocation", "-o"]);
        run(link.arg(&whole).args(&objects));
        run(self.tool("OBJCOPY", "objcopy").arg("--localize-hidden").arg(&whole));
        self.archive("slabmalloc", &[whole]);
    }

    /// libslabmalloc_kernel.a.
    fn zones(&self) {
        let folder = self.root.join("src/kernel_c_api");
        let lists = read(&folder.join("CMakeLists.txt"));
        let mut flags = self.options(&lists, "target_compile_options(slabmalloc_kernel", ")\n");
        if let Some(cpus) = variable("SLABMALLOC_MAXIMUM_CPUS") {
            flags.push(format!("-DSLABMALLOC_MAXIMUM_CPUS={cpus}"));
        }
        if has_feature("HOOKS") {
            flags.push("-fPIC".into());
        }
        let units: Vec<_> =
            sources(&folder).into_iter().map(|file| (file, flags.clone())).collect();
        let objects = self.compile("zones", &units);
        self.archive("slabmalloc_kernel", &objects);
    }

    /// Compiles the units, NUM_JOBS at a time, and returns the objects.
    fn compile(&self, name: &str, units: &[(PathBuf, Vec<String>)]) -> Vec<PathBuf> {
        let folder = self.out.join(name);
        fs::create_dir_all(&folder).unwrap();
        let jobs = variable("NUM_JOBS").and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
        let next = AtomicUsize::new(0);
        // Two folders may have files of the same name.
        let object =
            |index: usize| folder.join(format!("{index}_{}.o", file_name(&units[index].0)));
        std::thread::scope(|scope| {
            for _ in 0..std::cmp::min(jobs, units.len()) {
                scope.spawn(|| loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (source, own) = match units.get(index) {
                        Some(unit) => unit,
                        None => break,
                    };
                    let mut command = self.command();
                    command.args(own).arg("-c").arg(source).arg("-o").arg(object(index));
                    run(&mut command);
                });
            }
        });
        (0..units.len()).map(object).collect()
    }

    fn archive(&self, name: &str, objects: &[PathBuf]) {
        let file = self.out.join(format!("lib{name}.a"));
        let _ = fs::remove_file(&file);
        run(self.tool("AR", "ar").arg("crs").arg(&file).args(objects));
        println!("cargo:rustc-link-search=native={}", self.out.display());
        println!("cargo:rustc-link-lib=static={name}");
    }

    /// The options of the command of `lists` that begins with `start`.
    fn options(&self, lists: &str, start: &str, end: &str) -> Vec<String> {
        options(between(lists, start, end), self.is_gcc)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.compiler[0]);
        command.args(&self.compiler[1..]).args(&self.flags);
        command
    }

    /// The tool that `variable_name` names, or the one that belongs to the compiler.
    fn tool(&self, variable_name: &str, program: &str) -> Command {
        println!("cargo:rerun-if-env-changed={variable_name}");
        if let Some(named) = variable(variable_name) {
            return Command::new(named);
        }
        let asked = self.command().arg(format!("-print-prog-name={program}")).output().unwrap();
        Command::new(String::from_utf8_lossy(&asked.stdout).trim())
    }
}

fn run(command: &mut Command) {
    let status = command.status();
    let status = status.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().map_or(false, |extension| extension == "cpp"));
    files.sort();
    files
}

// ---- text ---------------------------------------------------------------------------------------

fn read(file: &Path) -> String {
    println!("cargo:rerun-if-changed={}", file.display());
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

fn file_name(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

/// The text between the first `start` and the next `end`; empty without `start`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let after = text.split_once(start).map_or("", |(_, after)| after);
    after.split_once(end).map_or("", |(inner, _)| inner)
}

/// The compiler's options of a command of CMake, without those that depend on CMake's state.
fn options(arguments: &str, is_gcc: bool) -> Vec<String> {
    let for_gcc = "$<$<CXX_COMPILER_ID:GNU>:";
    let option = |word: &str| match word.strip_prefix(for_gcc) {
        Some(inner) if is_gcc => inner.strip_suffix('>').map(String::from),
        _ => Some(word).filter(|word| word.starts_with('-')).map(String::from),
    };
    arguments.split_whitespace().filter_map(option).collect()
}

/// Each `#define SLABMALLOC_NAME number` of kernel.h as a Rust constant NAME.
fn write_constants(root: &Path, out: &Path) {
    let header = read(&root.join("include/slabmalloc/kernel.h"));
    let mut text = String::new();
    for line in header.lines() {
        let parts: Vec<_> = line.split_whitespace().collect();
        if let ["#define", name, rest @ ..] = &parts[..] {
            let value = rest.concat().replace("(size_t)", "").replace(['(', ')'], "");
            if let (Some(name), Ok(value)) =
                (name.strip_prefix("SLABMALLOC_"), value.parse::<u64>())
            {
                text += &format!("#[allow(dead_code)]\npub const {name}: usize = {value};\n");
            }
        }
    }
    fs::write(out.join("constants.rs"), text).unwrap();
}
