// Sealing and opening of packets, 64 B to 64 KB, by every cipher and every provider this processor
// runs. Names read seal/CIPHER/PROVIDER/PAYLOAD; rates count payload. Buffers walk through 256 KiB,
// as an arena in the second-level cache does.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "crypto/host_key.hh"
#include "crypto/key_exchange.hh"
#include "crypto/packet_cipher.hh"
#include "crypto/public_key.hh"
#include "crypto/random.hh"

namespace {

using namespace burin;
using namespace burin::crypto;

// CHANNEL_DATA's own fields: message number, channel, length.
constexpr std::size_t head_size = 9;
constexpr std::size_t walked_bytes = 256 * 1024;

cipher_keys random_keys() {
    cipher_keys keys;
    fill_random(keys.key);
    fill_random(keys.iv);
    return keys;
}

double thread_seconds() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

void seal(benchmark::State& state, cipher kind, provider from) {
    auto size = static_cast<std::size_t>(state.range(0));
    auto sealer = make_sealer(kind, random_keys(), from);
    std::size_t stride = sealer->sealed_size(head_size + size);
    std::size_t places = std::max<std::size_t>(1, walked_bytes / stride);
    byte_vector bodies(places * size), sealed(places * stride);
    fill_random(bodies);
    std::byte head[head_size]{};
    std::size_t place = 0;
    for (auto _ : state) {
        sealer->seal(0, head, bytes_view(bodies).subspan(place * size, size),
                     sealed.data() + place * stride);
        if (++place == places) place = 0;
    }
    benchmark::DoNotOptimize(sealed.data());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}

// Opening destroys its input, so every round opens a fresh copy of the same packets.
void open(benchmark::State& state, cipher kind, provider from) {
    auto size = static_cast<std::size_t>(state.range(0));
    cipher_keys keys = random_keys();
    auto sealer = make_sealer(kind, keys, from);
    std::size_t stride = sealer->sealed_size(head_size + size);
    std::size_t packets = std::max<std::size_t>(1, walked_bytes / stride);
    byte_vector body(size), pristine(packets * stride);
    std::byte head[head_size]{};
    for (std::size_t i = 0; i < packets; ++i)
        sealer->seal(0, head, body, pristine.data() + i * stride);
    byte_vector work(pristine.size());
    for (auto _ : state) {
        std::memcpy(work.data(), pristine.data(), work.size());
        auto opener = make_opener(kind, keys, from);
        bytes_span left = work;
        double start = thread_seconds();
        while (!left.empty()) {
            auto opened = opener->open(0, left);
            if (opened.state != packet_opener::opened::status::complete) {
                state.SkipWithError("packet did not open");
                return;
            }
            left = left.subspan(opened.wire_bytes);
        }
        state.SetIterationTime(thread_seconds() - start);
    }
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(packets * size));
}

// What a handshake costs beside its round trips.
void handshake_server(benchmark::State& state) {
    host_key key = host_key::generate();
    curve25519_key peer = curve25519_key::generate();
    for (auto _ : state) {
        curve25519_key mine = curve25519_key::generate();
        benchmark::DoNotOptimize(mine.agree(peer.public_key()));
        benchmark::DoNotOptimize(key.sign(mine.public_key()));
    }
}

void handshake_verify(benchmark::State& state) {
    host_key key = host_key::generate();
    byte_vector signature = key.sign(as_bytes("H"));
    for (auto _ : state)
        if (!verify(key.blob(), signature, as_bytes("H"))) state.SkipWithError("wrong signature");
}

const bool registered = [] {
    for (cipher kind : {cipher::aes128_gcm, cipher::aes256_gcm})
        for (provider from : {provider::ipsec_mb, provider::openssl, provider::wolfcrypt}) {
            if (!available(from)) continue;
            std::string name = std::string(name_of(kind).substr(0, name_of(kind).find('@'))) + "/" +
                               std::string(name_of(from));
            auto sizes = [](benchmark::internal::Benchmark* one) {
                for (int size : {64, 256, 1024, 1400, 4096, 16384, 32768, 65536}) one->Arg(size);
            };
            sizes(benchmark::RegisterBenchmark(("seal/" + name).c_str(), seal, kind, from));
            sizes(benchmark::RegisterBenchmark(("open/" + name).c_str(), open, kind, from)
                      ->UseManualTime());
        }
    benchmark::RegisterBenchmark("handshake/server", handshake_server);
    benchmark::RegisterBenchmark("handshake/verify", handshake_verify);
    return true;
}();

}  // namespace
