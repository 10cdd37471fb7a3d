//! Whatever is pressed, told and drawn on, nothing panics and nothing is drawn outside.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Input {
    Key(KeyEvent),
    Size(u16, u16),
    Told(usize, bool, Vec<(String, String, Option<f64>)>),
    Page(usize, Tab, u64),
    Later(u64),
}

fn key() -> impl Strategy<Value = KeyEvent> {
    use KeyCode::*;
    let known = [
        Up,
        Down,
        PageUp,
        PageDown,
        Home,
        End,
        Enter,
        Esc,
        Backspace,
        KeyCode::Tab,
        BackTab,
        Left,
        Right,
        Delete,
        F(1),
    ];
    let code = prop_oneof![
        4 => proptest::sample::select(known.to_vec()),
        4 => proptest::sample::select("0123456789hjklgGrp/? ".chars().collect::<Vec<_>>())
            .prop_map(Char),
        1 => any::<char>().prop_map(Char),
    ];
    let modifiers = prop_oneof![
        9 => Just(KeyModifiers::NONE),
        1 => Just(KeyModifiers::CONTROL),
    ];
    (code, modifiers).prop_map(|(code, modifiers)| KeyEvent::new(code, modifiers))
}

fn input() -> impl Strategy<Value = Input> {
    let value = proptest::option::of(any::<f64>());
    let checks = proptest::collection::vec((".{0,20}", any::<String>(), value), 0..12);
    prop_oneof![
        8 => key().prop_map(Input::Key),
        2 => (0u16..140, 0u16..50).prop_map(|(width, height)| Input::Size(width, height)),
        2 => (0usize..3, any::<bool>(), checks).prop_map(|(n, ok, c)| Input::Told(n, ok, c)),
        2 => (0usize..3, 0usize..10, 0u64..60).prop_map(|(n, t, c)| Input::Page(n, Tab::ALL[t], c)),
        1 => (0u64..30).prop_map(Input::Later),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn nothing_panics_and_all_is_drawn_inside(
        inputs in proptest::collection::vec(input(), 0..40),
        nodes in 1usize..3,
        (colour, unicode, merge) in any::<(bool, bool, bool)>(),
    ) {
        let names = ["a:1", "b\u{1b}[2J:2", "日本:3"];
        let mut app = app(&names[..nodes], Looks { colour, unicode });
        app.merge = merge;
        let (mut size, mut second) = ((80, 24), 0);
        for input in inputs {
            match input {
                Input::Key(key) => {
                    app.key(key, at(second));
                }
                Input::Size(width, height) => size = (width, height),
                Input::Told(node, false, _) => app.told(node, Err(unreachable()), at(second)),
                Input::Told(node, true, checks) => {
                    let mut base = ill("web-1");
                    let made = checks.iter().map(|(name, detail, value)| HealthCheck {
                        value: *value,
                        ..check(name, Condition::Warn, detail, 0.0)
                    });
                    base.health.checks = made.collect();
                    app.told(node, Ok(base), at(second));
                }
                Input::Page(node, tab, count) => app.page(node, tab, entries(count), at(second)),
                Input::Later(by) => {
                    second += by;
                    app.tick(at(second));
                }
            }
            // A cell outside of the buffer is a panic.
            let shown = buffer(&mut app, size);
            prop_assert_eq!(shown.area.as_size(), size.into());
            for cell in shown.content() {
                prop_assert!(!cell.symbol().chars().any(char::is_control));
                prop_assert!(unicode || cell.symbol().is_ascii());
            }
            app.exit();
        }
    }
}
