use super::*;
#[test]
fn look() {
    println!("{}", load(Path::new("/tmp/three.yaml"), None).unwrap_err());
    println!("{}", load_demo(None).map(|l| l.effective).unwrap());
}
