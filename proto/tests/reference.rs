//! The reference of every rpc and message in docs/api.md, made from the comments and options of the `.proto`
//! files. `UPDATE=1` rewrites it.

#![allow(clippy::unwrap_used)] // The helpers of a test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use genesis_proto::MethodPolicy;
use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use prost_reflect::{FileDescriptor, MethodDescriptor, ServiceDescriptor};
use protox::Compiler;

const PAGE: &str = "../docs/api.md";
const END: &str = "<!-- end:generated -->";
const PACKAGE: &str = "genesis.v1";

/// The contract with its comments, which the descriptors that programs carry leave out.
fn contract() -> DescriptorPool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> =
        fs::read_dir(root.join("genesis/v1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut compiler = Compiler::new([root]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files).unwrap();
    compiler.descriptor_pool()
}

/// The comment on what stands at `path`, its lines joined to paragraphs.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref().unwrap();
    let here = info.location.iter().find(|location| location.path == path);
    let text = here.map(|location| location.leading_comments()).unwrap_or_default();
    let paragraphs = text.split("\n\n").map(|paragraph| {
        paragraph
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    });
    paragraphs.filter(|paragraph| !paragraph.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn cell(text: &str) -> String {
    text.replace("\n\n", " ").replace('|', "\\|")
}

fn link(name: &str) -> String {
    format!("[`{name}`](#{})", name.to_lowercase())
}

fn kind(kind: &Kind) -> String {
    let named = |full: &str, name: &str| match full.strip_prefix(PACKAGE) {
        Some(_) => link(name),
        None => format!("`{full}`"),
    };
    match kind {
        Kind::Message(message) => named(message.full_name(), message.name()),
        Kind::Enum(values) => named(values.full_name(), values.name()),
        scalar => format!("`{scalar:?}`").to_lowercase(),
    }
}

fn type_of(field: &FieldDescriptor) -> String {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            unreachable!("a map's entries are messages")
        };
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        return format!("map of {} to {}", kind(&key.kind()), kind(&value.kind()));
    }
    let one = kind(&field.kind());
    match (field.is_list(), field.containing_oneof()) {
        (true, _) => format!("repeated {one}"),
        (false, Some(oneof)) if oneof.is_synthetic() => format!("optional {one}"),
        (false, Some(oneof)) => format!("{one}, one of `{}`", oneof.name()),
        (false, None) => one,
    }
}

fn message(text: &mut String, message: &MessageDescriptor) {
    let file = message.parent_file();
    let said = comment(&file, message.path());
    write!(text, "#### `{}`\n\n", message.name()).unwrap();
    if !said.is_empty() {
        write!(text, "{said}\n\n").unwrap();
    }
    if message.fields().len() == 0 {
        text.push_str("No fields.\n\n");
        return;
    }
    text.push_str("| field | type | meaning |\n|---|---|---|\n");
    for field in message.fields() {
        let said = cell(&comment(&file, field.path()));
        writeln!(text, "| `{}` | {} | {said} |", field.name(), type_of(&field)).unwrap();
    }
    text.push('\n');
}

fn values(text: &mut String, values: &EnumDescriptor) {
    let file = values.parent_file();
    let said = comment(&file, values.path());
    write!(text, "#### `{}`\n\n{said}\n\n| value | meaning |\n|---|---|\n", values.name()).unwrap();
    for value in values.values() {
        writeln!(text, "| `{}` | {} |", value.name(), cell(&comment(&file, value.path()))).unwrap();
    }
    text.push('\n');
}

fn role(policy: &MethodPolicy) -> String {
    format!("{:?}", policy.role.unwrap()).to_lowercase()
}

fn rpc(text: &mut String, method: &MethodDescriptor, policy: &MethodPolicy) {
    let service = method.parent_service();
    let side = |stream: bool, message: &MessageDescriptor| {
        let stream = if stream { "stream of " } else { "" };
        format!("{stream}{}", kind(&Kind::Message(message.clone())))
    };
    let said = comment(&service.parent_file(), method.path());
    assert!(!said.is_empty(), "{} has no comment", method.full_name());
    let traits = [
        (policy.mutating, "changes something"),
        (policy.destructive, "destructive"),
        (policy.urgent, "urgent"),
    ];
    let traits: String =
        traits.into_iter().filter(|(has, _)| *has).map(|(_, word)| format!(", {word}")).collect();
    write!(
        text,
        "#### `{}/{}`\n\n{} → {} · {}{traits}\n\n{said}\n\n",
        service.name(),
        method.name(),
        side(method.is_client_streaming(), &method.input()),
        side(method.is_server_streaming(), &method.output()),
        role(policy),
    )
    .unwrap();
}

fn services(pool: &DescriptorPool) -> Vec<ServiceDescriptor> {
    let mut services: Vec<_> =
        pool.services().filter(|service| service.full_name().starts_with(PACKAGE)).collect();
    services.sort_by_key(|service| service.name().to_owned());
    services
}

fn policy_of(policies: &BTreeMap<String, MethodPolicy>, method: &MethodDescriptor) -> MethodPolicy {
    let service = method.parent_service();
    policies[&format!("/{}/{}", service.full_name(), method.name())]
}

fn table(pool: &DescriptorPool, policies: &BTreeMap<String, MethodPolicy>) -> String {
    let mut text =
        String::from("| rpc | role | changes | destructive | urgent |\n|---|---|---|---|---|\n");
    for service in services(pool) {
        let mut methods: Vec<_> = service.methods().collect();
        methods.sort_by_key(|method| method.name().to_owned());
        for method in methods {
            let policy = policy_of(policies, &method);
            let yes = |flag: bool| if flag { "yes" } else { "" };
            writeln!(
                text,
                "| [`{0}/{1}`](#{2}{3}) | {4} | {5} | {6} | {7} |",
                service.name(),
                method.name(),
                service.name().to_lowercase(),
                method.name().to_lowercase(),
                role(&policy),
                yes(policy.mutating),
                yes(policy.destructive),
                yes(policy.urgent)
            )
            .unwrap();
        }
    }
    text
}

fn reference(pool: &DescriptorPool, policies: &BTreeMap<String, MethodPolicy>) -> String {
    let mut text = String::from("\n");
    for service in services(pool) {
        let said = comment(&service.parent_file(), service.path());
        assert!(!said.is_empty(), "{} has no comment", service.full_name());
        write!(text, "### {}\n\n{said}\n\n", service.name()).unwrap();
        for method in service.methods() {
            rpc(&mut text, &method, &policy_of(policies, &method));
        }
    }
    text.push_str("### Messages\n\n");
    let ours = |name: &str| name.starts_with(PACKAGE);
    let mut messages: Vec<_> = pool
        .all_messages()
        .filter(|message| ours(message.full_name()) && !message.is_map_entry())
        .collect();
    messages.sort_by_key(|message| message.name().to_owned());
    for one in &messages {
        message(&mut text, one);
    }
    text.push_str("### Enumerations\n\n");
    let mut enums: Vec<_> = pool.all_enums().filter(|one| ours(one.full_name())).collect();
    enums.sort_by_key(|one| one.name().to_owned());
    for one in &enums {
        values(&mut text, one);
    }
    text
}

fn compare(marker: &str, wanted: &str) {
    let text = fs::read_to_string(PAGE).unwrap();
    let begin = format!("<!-- generated:{marker} -->\n");
    let (before, rest) = text.split_once(&begin).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(PAGE, format!("{before}{begin}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert!(
        found == wanted,
        "docs/api.md is not what the contract says; run UPDATE=1 cargo test -p genesis-proto --test reference"
    );
}

#[test]
fn the_reference_of_the_api_is_generated() {
    let (pool, policies) = (contract(), genesis_proto::method_policies());
    compare("rpcs", &table(&pool, &policies));
    compare("reference", &reference(&pool, &policies));
}
