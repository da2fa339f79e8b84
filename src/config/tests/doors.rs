//! Files, the command line and the search order.

use std::fs;
use std::path::PathBuf;

use crate::config::fixture::environment;
use crate::config::resolved::{Location, Origin};
use crate::config::{Environment, discover, from_sources, load_file, load_values, schema};

fn directory() -> (tempfile::TempDir, Environment) {
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path().to_str().unwrap());
    (dir, env)
}

#[test]
fn files_that_cannot_be_read_say_what_to_do() {
    let (dir, env) = directory();
    let said = load_file("none.yaml".as_ref(), &env).unwrap_err().to_string();
    insta::assert_snapshot!(said, @r#"
    error: none.yaml: cannot be read: No such file or directory (os error 2)
      cure: create the file, or name another one
    "#);
    let said = load_values(".".as_ref(), &env).unwrap_err().to_string();
    insta::assert_snapshot!(said, @r#"
    error: .: cannot be read: is a directory
      cure: name a file in that directory
    "#);
    fs::write(dir.path().join("latin.yaml"), b"a: b\nc: \xe4\n").unwrap();
    let said = load_file("latin.yaml".as_ref(), &env).unwrap_err().to_string();
    insta::assert_snapshot!(said, @r#"
    error: latin.yaml:2: is not UTF-8: byte 0xe4
      cure: save the file as UTF-8
    "#);
    let said = load_file("/dev/zero".as_ref(), &env).unwrap_err().to_string();
    insta::assert_snapshot!(said, @r#"
    error: /dev/zero: cannot be read: not a regular file
      cure: write it into a file: it is read more than once, which a pipe or a device does not allow
    "#);
    // Nobody writes to it: opening it for reading would wait for ever.
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let said = load_file("fifo".as_ref(), &env).unwrap_err().to_string();
    assert!(said.contains("not a regular file"), "{said}");
    fs::write(dir.path().join("long.yaml"), "#".repeat((4 << 20) + 1)).unwrap();
    let said = load_file("long.yaml".as_ref(), &env).unwrap_err().to_string();
    insta::assert_snapshot!(said, @r#"
    error: long.yaml: is larger than 4 MiB
      cure: name the configuration file, not another one
    "#);
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let (dir, env) = directory();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/o.yaml"), "overlays: {sources: [{path: x}]}").unwrap();
    let config = load_file("sub/o.yaml".as_ref(), &env).unwrap().config;
    assert_eq!(config.sources[0].location, Location::Path(dir.path().join("sub/x")));
    assert_eq!(config.origin, Origin::File(dir.path().join("sub/o.yaml")));
}

#[test]
fn the_search_has_an_order_and_tells_it() {
    let (dir, mut env) = directory();
    env.home = Some(dir.path().join("home"));
    env.system_config = dir.path().join("etc.yaml");
    let said = discover(&env).unwrap_err().to_string();
    let said = said.replace(dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(said, @r#"
    error: there is no configuration file; tried: `$OVERLAYFS_MOUNT_CONFIG` (not set), `DIR/overlays.yaml`, `DIR/home/.config/overlayfs-mount/overlays.yaml`, `DIR/etc.yaml`
      cure: name one with `-c FILE`, a values file with `--values FILE`, or sources with `--source SPEC`
    "#);
    fs::write(&env.system_config, "").unwrap();
    assert_eq!(discover(&env).unwrap(), env.system_config);
    env.xdg_config_home = Some(dir.path().join("xdg"));
    let user = dir.path().join("xdg/overlayfs-mount/overlays.yaml");
    fs::create_dir_all(user.parent().unwrap()).unwrap();
    fs::write(&user, "").unwrap();
    assert_eq!(discover(&env).unwrap(), user);
    let here = dir.path().join("overlays.yaml");
    fs::write(&here, "").unwrap();
    assert_eq!(discover(&env).unwrap(), here);
    env.config = Some(PathBuf::from("named.yaml"));
    assert_eq!(discover(&env).unwrap(), PathBuf::from("named.yaml"));
}

#[test]
fn specifications_are_directories_or_repositories() {
    let (dir, env) = directory();
    for name in ["plain", "a/b", "x/y/z"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    let path = |path: &str| Location::Path(dir.path().join(path));
    for (spec, location, git_ref) in [
        ("./a/b", path("a/b"), None),
        (".", path(""), None),
        ("plain", path("plain"), None),
        ("x/y/z", path("x/y/z"), None),
        ("c/d", Location::Repo { repo: name("c/d"), url: None }, None),
        ("a/b", Location::Repo { repo: name("a/b"), url: None }, None),
        ("c/d@v1/x@y", Location::Repo { repo: name("c/d"), url: None }, Some("v1/x@y")),
    ] {
        let loaded = from_sources(&[spec.to_owned()], &env).unwrap();
        let source = &loaded.config.sources[0];
        assert_eq!((&source.location, source.git_ref.as_deref()), (&location, git_ref), "{spec}");
        assert_eq!(source.line, None);
        assert_eq!(loaded.config.origin, Origin::CommandLine);
        assert_eq!(loaded.warnings.len(), usize::from(spec == "a/b"), "{spec}");
    }
}

fn name(text: &str) -> crate::union::source::SourceName {
    crate::union::source::SourceName::parse(text).unwrap()
}

#[test]
fn specifications_that_are_neither_are_all_reported() {
    let (_dir, env) = directory();
    let specs = ["./none", "none", "", "a/b@", "a/b@x~1", "tools/x"].map(str::to_owned);
    let said = from_sources(&specs, &env).unwrap_err().to_string();
    insta::assert_snapshot!(said, @r#"
    error: `--source[0]`: directory `./none` is not there
      cure: create the directory or correct the path
    error: `--source[1]`: `none` is neither a directory nor `owner/repo`
      cure: write a directory, as `./overlay`, or `owner/repo`, or `owner/repo@REF`
    error: `--source[2]`: `` is neither a directory nor `owner/repo`
      cure: write a directory, as `./overlay`, or `owner/repo`, or `owner/repo@REF`
    error: `--source[3]`: `a/b@` has no ref after `@`
      cure: write `a/b@REF`, or `a/b` for its HEAD
    error: `--source[4].ref`: `x~1` is a revision expression or a pattern: it holds `~`
      cure: write a branch, a tag, a full ref name or a full commit id
    error: `--source[5].repo`: source `tools/x` would stand inside surface `tools`, whose place begins with `tools`
      cure: list it in a configuration file with another name, as `name: source-tools/x`, or move the surface: `surfaces: {tools: {at: ...}}`, or set `mount.sources: false`
    "#);
}

#[test]
fn every_key_of_the_schema_is_documented() {
    let doc = include_str!("../../../docs/CONFIG.md");
    let mut keys = Vec::new();
    collect_keys(&schema(), &mut keys);
    assert!(keys.len() > 40, "{keys:?}");
    let missing: Vec<_> = keys
        .iter()
        .filter(|key| {
            let ends = ["`", ".", "[", ":"];
            let starts = ["`", "."];
            !starts
                .iter()
                .any(|start| ends.iter().any(|end| doc.contains(&format!("{start}{key}{end}"))))
        })
        .collect();
    assert!(missing.is_empty(), "not in docs/CONFIG.md: {missing:?}");
}

fn collect_keys(schema: &serde_json::Value, keys: &mut Vec<String>) {
    if let Some(properties) = schema.get("properties").and_then(|found| found.as_object()) {
        keys.extend(properties.keys().cloned());
    }
    match schema {
        serde_json::Value::Object(map) => map.values().for_each(|inner| collect_keys(inner, keys)),
        serde_json::Value::Array(items) => items.iter().for_each(|inner| collect_keys(inner, keys)),
        _ => {}
    }
}

#[test]
fn the_schema_describes_every_key() {
    fn check(schema: &serde_json::Value) {
        let properties = schema.get("properties").and_then(|found| found.as_object());
        for (key, property) in properties.into_iter().flatten() {
            assert!(property.get("description").is_some(), "{key} has no description");
        }
        match schema {
            serde_json::Value::Object(map) => map.values().for_each(check),
            serde_json::Value::Array(items) => items.iter().for_each(check),
            _ => {}
        }
    }
    check(&schema());
    assert_eq!(schema()["additionalProperties"], false);
}
