// KEXINIT: parsed, built and agreed upon, beside the rules of RFC 4253 section 7.1 written down
// once more over lists of strings.
#include <string>
#include <vector>

#include "core/ssh/kexinit.hh"
#include "core/ssh/messages.hh"
#include "core/ssh/names.hh"
#include "tests/fuzz/target.hh"

namespace {

using namespace burin;
using namespace burin::ssh;
using fuzz::check;

using names = std::vector<std::string>;

// A list without a name is a list of one empty name, which is none.
names split(std::string_view list) {
    names out(1);
    for (const char c : list) {
        if (c == ',')
            out.emplace_back();
        else
            out.back() += c;
    }
    return out;
}

bool has(const names& list, std::string_view name) {
    return std::find(list.begin(), list.end(), name) != list.end();
}

std::string first_common(std::string_view client, std::string_view server) {
    const names theirs = split(server);
    for (const std::string& name : split(client))
        if (!name.empty() && has(theirs, name)) return name;
    return {};
}

bool fits_a_line(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

void build_again(const kexinit& from) {
    byte_vector out;
    build(out, from);
    kexinit again;
    check(parse(out, again), "what is built can be parsed");
    check(again.key_exchanges == from.key_exchanges && again.host_keys == from.host_keys &&
              again.ciphers_to_server == from.ciphers_to_server &&
              again.ciphers_to_client == from.ciphers_to_client &&
              again.macs_to_server == from.macs_to_server &&
              again.macs_to_client == from.macs_to_client &&
              again.compressions_to_server == from.compressions_to_server &&
              again.compressions_to_client == from.compressions_to_client &&
              again.languages_to_server == from.languages_to_server &&
              again.languages_to_client == from.languages_to_client &&
              again.first_packet_follows == from.first_packet_follows,
          "and says the same");
    for (std::size_t size = 0; size < out.size(); size += 1 + size / 8)
        check(!parse(bytes_view(out).first(size), again), "part of it is none");
    out.push_back({});
    check(!parse(out, again), "nor is more");
}

void compare(const kexinit& client, const kexinit& server) {
    agreement got;
    const std::string why = agree(client, server, got);
    check(fits_a_line(why), "why there is no agreement fits a line");
    const std::string exchange = first_common(client.key_exchanges, server.key_exchanges);
    const std::string key = first_common(client.host_keys, server.host_keys);
    // Pseudo-names may be common, too, and are no method.
    const bool known = crypto::key_exchange_named(exchange).has_value();
    if (!known) check(why.starts_with("no common key exchange"), "the list is named");
    if (known && key.empty()) check(why.starts_with("no common host key"), "the list is named");
    if (!why.empty()) return;
    check(got.key_exchange == exchange && got.host_key == key, "the client's first is taken");
    check(crypto::name_of(got.to_server.kind) ==
                  first_common(client.ciphers_to_server, server.ciphers_to_server) &&
              crypto::name_of(got.to_client.kind) ==
                  first_common(client.ciphers_to_client, server.ciphers_to_client),
          "of ciphers too");
    const auto mac_of = [](crypto::protection how, std::string_view ours, std::string_view theirs) {
        return crypto::authenticates(how.kind)
                   ? how.integrity == crypto::mac::none
                   : crypto::name_of(how.integrity) == first_common(ours, theirs);
    };
    check(mac_of(got.to_server, client.macs_to_server, server.macs_to_server) &&
              mac_of(got.to_client, client.macs_to_client, server.macs_to_client),
          "and of MACs where the cipher needs one");
    const std::string towards = ciphers_towards(client, server.ciphers_to_client);
    check(towards.empty() == server.ciphers_to_client.empty(), "a server offers what it has");
    for (const std::string_view list :
         {client.compressions_to_server, client.compressions_to_client,
          server.compressions_to_server, server.compressions_to_client})
        check(has(split(list), "none"), "nothing is compressed");
    check(got.guess_right == (split(client.key_exchanges)[0] == split(server.key_exchanges)[0] &&
                              split(client.host_keys)[0] == split(server.host_keys)[0]),
          "a guess is right when both first names are");
}

proposal proposed(role side, bool first_packet_follows) {
    static const settings config;
    proposal out = own_proposal(side, config, "ecdsa-sha2-nistp256");
    out.first_packet_follows = first_packet_follows;
    return out;
}

void run(bytes_view input) {
    fuzz::script in(input);
    const unsigned what = in.byte();
    const byte_vector payload = fuzz::exact(in.rest());
    kexinit theirs;
    if (!parse(payload, theirs)) return;
    check(number_of(payload) == message::kexinit, "KEXINIT has its number");
    build_again(theirs);
    const role side = (what & 1) != 0 ? role::client : role::server;
    const auto turn = (what & 2) != 0 ? exchange_turn::first : exchange_turn::later;
    const byte_vector mine = own_kexinit(side, turn, proposed(side, (what & 4) != 0));
    kexinit ours;
    check(parse(mine, ours), "our own can be parsed");
    check(contains_name(ours.key_exchanges, strict_server) ==
              (side == role::server && turn == exchange_turn::first),
          "only a first KEXINIT carries names that are none");
    if (side == role::client)
        compare(ours, theirs);
    else
        compare(theirs, ours);
    compare(theirs, theirs);
    for (const std::string& name : split(theirs.key_exchanges))
        check(name.empty() || contains_name(theirs.key_exchanges, name), "a list has its names");
}

const fuzz::target registered("ssh_kexinit", run, "core/ssh/kexinit.cc core/ssh/names.cc");

}  // namespace
