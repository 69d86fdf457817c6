// What is forwarded, as people and peers write it: remotes, targets of channels, the config
// request.
#include <string>

#include "core/engine/config_request.hh"
#include "core/engine/remote.hh"
#include "core/relay/endpoint.hh"
#include "core/relay/target.hh"
#include "tests/fuzz/target.hh"

namespace {

using namespace burin;
using fuzz::check;

bool fits_a_line(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

void read_remote(std::string_view text) {
    const engine::remote_reading got = engine::parse_remote(text);
    check(got.value.has_value() == got.error.empty(), "a remote, or why not");
    if (!got.value) return;
    const engine::remote& r = *got.value;
    check(r.local_proto == r.remote_proto, "both sides speak the same");
    check(r.stdio || engine::port_number(r.local_port) != 0, "there is a port here");
    // `stdio` alone is accepted, as by Go (docs/wire.md section 10.4).
    check(r.socks || r.stdio || engine::port_number(r.remote_port) != 0, "and one there");
    check(!r.text().empty(), "it has a form for the log");
    // What it is sent as comes back.
    const std::string json = engine::write_config({.version = "1.11.5", .remotes = {r, r}});
    const auto config = engine::parse_config(json);
    check(config.has_value() && config->remotes.size() == 2, "a remote can be sent");
    const bool plain = fits_a_line(text);
    if (plain) check(config->remotes[1] == r, "and comes back");
}

void read_target(std::string_view text) {
    const auto got = relay::parse_target(text);
    if (!got) return;
    using kind = relay::target::kind;
    if (got->what == kind::socks) return check(text == "socks", "socks is a word of its own");
    check(got->port != 0 && !got->host.empty(), "a target has a host and a port");
    check(fits_a_line(got->text()) && got->host.find(' ') == std::string::npos,
          "a target can be logged");
    const auto again = relay::parse_target(got->text());
    check(again && again->host == got->host && again->port == got->port, "a target can be written");
    const auto literal = relay::endpoint::literal(got->host, got->port);
    if (literal) check(literal->port() == got->port, "an address keeps its port");
}

void read_config(std::string_view text) {
    const auto got = engine::parse_config(text);
    if (!got) return;
    const std::string json = engine::write_config(*got);
    const auto again = engine::parse_config(json);
    check(again && again->version == got->version && again->remotes == got->remotes,
          "a config can be written");
    check(engine::write_config(*again) == json, "always the same way");
    check(fits_a_line(engine::version_difference(got->version, "1.11.5")), "and logged");
    engine::ends_streams_by_eof(got->version);
}

void run(bytes_view input) {
    fuzz::script in(input);
    const unsigned what = in.pick(4);
    const byte_vector bytes = fuzz::exact(in.rest());
    const std::string_view text = as_text(bytes);
    if (what == 0) read_remote(text);
    if (what == 1) read_target(text);
    if (what >= 2) read_config(text);
}

const fuzz::target registered("remote", run,
                              "core/engine/remote.cc core/engine/config_request.cc "
                              "core/relay/target.cc");

}  // namespace
