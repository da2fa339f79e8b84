//! The reader of `benches/peers`: one kind of work in a loop, without anything that costs more than the work itself.
//!
//! `reader WORK LIST` does WORK to every path of LIST (a file, one path a line, relative to the working directory); `reader random FILE
//! COUNT` reads pages of one file. It says `ready`, waits for a line, works, and says how many bytes it saw: who measures it takes the
//! clocks in between, so that starting and reading LIST cost nothing.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;

/// As many bytes as `cat` reads at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// The bytes of a page.
const PAGE_BYTES: u16 = 4096;

fn stat(path: &Path, _buffer: &mut [u8]) -> io::Result<u64> {
    fs::symlink_metadata(path).map(|metadata| metadata.len())
}

fn read(path: &Path, buffer: &mut [u8]) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut seen = 0;
    loop {
        match file.read(buffer)? {
            0 => return Ok(seen),
            count => seen += count as u64,
        }
    }
}

fn absent(path: &Path, _buffer: &mut [u8]) -> io::Result<u64> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(1),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other(format!("`{}` is there", path.display()))),
    }
}

fn readlink(path: &Path, _buffer: &mut [u8]) -> io::Result<u64> {
    fs::read_link(path).map(|target| target.as_os_str().len() as u64)
}

/// Reads `count` pages at places that are the same in every run.
fn random(path: &Path, count: u64) -> io::Result<u64> {
    let file = File::open(path)?;
    let pages = file.metadata()?.len() / u64::from(PAGE_BYTES);
    let mut page = vec![0; usize::from(PAGE_BYTES)];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.read_exact_at(&mut page, state % pages * u64::from(PAGE_BYTES))?;
    }
    Ok(count * u64::from(PAGE_BYTES))
}

fn wait_for_the_word() -> io::Result<()> {
    writeln!(io::stdout(), "ready")?;
    io::stdin().lock().read_line(&mut String::new()).map(|_| ())
}

fn run(work: &str, file: &Path, count: Option<&str>) -> io::Result<u64> {
    if let Some(count) = count {
        let count = count.parse().map_err(io::Error::other)?;
        wait_for_the_word()?;
        return random(file, count);
    }
    let work = match work {
        "stat" => stat,
        "read" => read,
        "absent" => absent,
        "readlink" => readlink,
        other => return Err(io::Error::other(format!("no work is called `{other}`"))),
    };
    let list = fs::read_to_string(file)?;
    let paths: Vec<&Path> = list.lines().map(Path::new).collect();
    let mut buffer = vec![0; BUFFER_BYTES];
    wait_for_the_word()?;
    paths.iter().map(|path| work(path, &mut buffer)).sum()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [work, file] => run(work, Path::new(file), None),
        [work, file, count] => run(work, Path::new(file), Some(count)),
        _ => Err(io::Error::other("usage: reader WORK LIST, or reader random FILE COUNT")),
    };
    let said = outcome.and_then(|seen| writeln!(io::stdout(), "{seen}"));
    if let Err(error) = said {
        let complaint = writeln!(io::stderr(), "reader: {error}");
        return if complaint.is_ok() { ExitCode::from(1) } else { ExitCode::from(2) };
    }
    ExitCode::SUCCESS
}
