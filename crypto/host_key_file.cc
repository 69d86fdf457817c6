// Reading host keys from text (docs/wire.md section 6.1). OpenSSL reads PEM and DER; OpenSSH's own
// container (PROTOCOL.key in its sources) is read here, because no library of ours knows it.
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <memory>
#include <utility>

#include "crypto/base64.hh"
#include "crypto/ecdsa_curve.hh"
#include "crypto/host_key.hh"

namespace burin::crypto {
namespace {

// Ten times the largest key anyone has.
constexpr std::size_t max_file_size = 65536;
constexpr std::size_t secret_size = 32;

struct free_openssl {
    void operator()(BIO* bio) const { BIO_free(bio); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(BIGNUM* number) const { BN_clear_free(number); }
};
template <class T>
using owned = std::unique_ptr<T, free_openssl>;

constexpr const char* encrypted =
    "the key is encrypted; remove its pass phrase (ssh-keygen -p -N '' -f FILE)";
constexpr const char* not_supported =
    "host keys are ECDSA on P-256, P-384 or P-521, Ed25519, or RSA";
constexpr const char* damaged = "the key is damaged";

host_key_reading failed(std::string error) {
    return {.key = {}, .error = std::move(error)};
}

host_key_reading made(std::optional<host_key> key) {
    if (!key) return failed(damaged);
    return {.key = std::move(key), .error = {}};
}

host_key_reading of_unsupported(std::string_view kind) {
    return failed(std::string(kind) + " keys are not supported; " + not_supported);
}

// A kind that has a private scalar or seed, and no RSA.
struct scalar_kind {
    host_key_kind kind;
    const ecdsa_curve* curve;
};
constexpr scalar_kind ecdsa_kinds[] = {{host_key_kind::ecdsa_p256, &ecdsa_curves[0]},
                                       {host_key_kind::ecdsa_p384, &ecdsa_curves[1]},
                                       {host_key_kind::ecdsa_p521, &ecdsa_curves[2]}};

host_key_reading made(std::optional<rsa_private_key> key, const char* problem) {
    if (!key) return failed(problem);
    return {.key = host_key(std::move(*key)), .error = {}};
}

host_key_reading from_ec(EVP_PKEY* key) {
    char group[80] = "";
    EVP_PKEY_get_group_name(key, group, sizeof group, nullptr);
    const auto* found = std::ranges::find_if(ecdsa_kinds, [&group](const scalar_kind& one) {
        return std::string_view(group) == one.curve->openssl_name;
    });
    if (found == std::end(ecdsa_kinds))
        return of_unsupported(std::string("EC keys on curve ") + group + ": such");
    BIGNUM* taken = nullptr;
    if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &taken) != 1)
        return failed("the file holds no private key");
    owned<BIGNUM> scalar(taken);
    const int size = static_cast<int>(found->curve->field);
    secret_bytes secret(found->curve->field);
    if (BN_bn2binpad(scalar.get(), reinterpret_cast<unsigned char*>(secret.span().data()), size) !=
        size)
        return failed(damaged);
    return made(host_key::from_private(found->kind, secret.view()));
}

// Takes over a key of type RSA.
host_key_reading from_rsa(EVP_PKEY* key) {
    if (EVP_PKEY_up_ref(key) != 1) return failed("out of memory");
    const char* problem = nullptr;
    auto taken = rsa_private_key::adopt(rsa_handle(key), problem);
    return made(std::move(taken), problem);
}

host_key_reading from_openssl(EVP_PKEY* key) {
    secret_bytes secret(secret_size);
    auto* octets = reinterpret_cast<unsigned char*>(secret.span().data());
    switch (EVP_PKEY_get_base_id(key)) {
        case EVP_PKEY_ED25519: {
            std::size_t size = secret_size;
            if (EVP_PKEY_get_raw_private_key(key, octets, &size) != 1 || size != secret_size)
                return failed(damaged);
            return made(host_key::from_private(host_key_kind::ed25519, secret.view()));
        }
        case EVP_PKEY_EC: return from_ec(key);
        case EVP_PKEY_RSA: return from_rsa(key);
        case EVP_PKEY_DSA: return of_unsupported("DSA");
        default: return failed(not_supported);
    }
}

// PEM asks for a pass phrase through this; noting that it asked is all we want.
int note_pass_phrase(char*, int, int, void* asked) {
    *static_cast<bool*>(asked) = true;
    return -1;
}

host_key_reading from_pem(std::string_view text) {
    owned<BIO> bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    if (!bio) return failed("out of memory");
    bool asked = false;
    owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(bio.get(), nullptr, note_pass_phrase, &asked));
    ERR_clear_error();
    if (asked) return failed(encrypted);
    if (!key) return failed(damaged);
    return from_openssl(key.get());
}

host_key_reading from_ck(std::string_view text) {
    std::optional<byte_vector> decoded = from_base64(text, base64_padding::unpadded);
    if (!decoded) return failed("the text behind `ck-` is not unpadded base64");
    const auto* at = reinterpret_cast<const unsigned char*>(decoded->data());
    owned<EVP_PKEY> key(
        d2i_PrivateKey(EVP_PKEY_EC, nullptr, &at, static_cast<long>(decoded->size())));
    ERR_clear_error();
    wipe(*decoded);
    if (!key) return failed("the `ck-` key does not hold an EC private key");
    return from_openssl(key.get());
}

constexpr std::string_view openssh_begin = "-----BEGIN OPENSSH PRIVATE KEY-----";
constexpr std::string_view openssh_end = "-----END OPENSSH PRIVATE KEY-----";

// An mpint without its sign octet, in `size` octets; empty when it is negative or longer.
secret_bytes padded(bytes_view number, std::size_t size) {
    if (number.empty() || (number[0] & std::byte{0x80}) != std::byte{0}) return {};
    while (!number.empty() && number[0] == std::byte{0}) number = number.subspan(1);
    if (number.size() > size) return {};
    secret_bytes out(size);
    if (!number.empty())
        std::memcpy(out.span().data() + size - number.size(), number.data(), number.size());
    return out;
}

// A key whose public half must be the one that stands beside the private one.
host_key_reading with_point(std::optional<host_key> key, bytes_view point) {
    wire::reader blob(key ? key->blob() : bytes_view{});
    bytes_view own;
    while (blob.left() != 0) own = blob.string();
    if (!key || !blob.ok() || !std::ranges::equal(own, point)) return failed(damaged);
    return made(std::move(key));
}

// The fields of one key, as its type has them; what is behind them stays in the reader.
host_key_reading from_openssh_fields(wire::reader& in) {
    const std::string_view type = in.text();
    if (type == "ssh-ed25519") {
        const bytes_view point = in.string();
        const bytes_view pair = in.string();
        // The seed, then the public key once more.
        if (!in.ok() || pair.size() != 2 * secret_size ||
            !std::ranges::equal(point, pair.last(secret_size)))
            return failed(damaged);
        return with_point(host_key::from_private(host_key_kind::ed25519, pair.first(secret_size)),
                          point);
    }
    for (const scalar_kind& one : ecdsa_kinds) {
        if (type != one.curve->algorithm) continue;
        const std::string_view curve = in.text();
        const bytes_view point = in.string();
        const secret_bytes scalar = padded(in.string(), one.curve->field);
        if (!in.ok() || curve != one.curve->name) return failed(damaged);
        return with_point(host_key::from_private(one.kind, scalar.view()), point);
    }
    if (type == rsa_type) {
        rsa_private_key::parts parts;
        parts.n = in.string();
        parts.e = in.string();
        parts.d = in.string();
        parts.q_inverse = in.string();
        parts.p = in.string();
        parts.q = in.string();
        if (!in.ok()) return failed(damaged);
        const char* problem = nullptr;
        auto key = rsa_private_key::from_parts(parts, problem);
        return made(std::move(key), problem);
    }
    if (!in.ok() || type.empty() || type.size() > 64) return failed(damaged);
    const bool readable = std::ranges::all_of(type, [](char c) { return c > ' ' && c < 127; });
    return of_unsupported(readable ? type : "such");
}

// The private section: two equal check words, the key, a comment, and 1, 2, 3 ... up to a multiple
// of 8. The key must be the one that the container shows in clear.
host_key_reading from_openssh_section(bytes_view section, bytes_view shown) {
    wire::reader in(section);
    if (section.size() % 8 || in.u32() != in.u32()) return failed(damaged);
    host_key_reading reading = from_openssh_fields(in);
    if (!reading.key) return reading;
    in.string();
    const bytes_view padding = in.rest();
    bool right = in.ok() && padding.size() < 8;
    for (std::size_t i = 0; i < padding.size(); ++i)
        right = right && padding[i] == static_cast<std::byte>(i + 1);
    if (!right || !std::ranges::equal(reading.key->blob(), shown)) return failed(damaged);
    return reading;
}

host_key_reading from_openssh(bytes_view container) {
    constexpr std::string_view magic{"openssh-key-v1\0", 15};
    if (container.size() < magic.size() || as_text(container.first(magic.size())) != magic)
        return failed(damaged);
    wire::reader in(container.subspan(magic.size()));
    const std::string_view cipher = in.text();
    const std::string_view stretching = in.text();
    const bytes_view stretching_options = in.string();
    const std::uint32_t keys = in.u32();
    if (!in.ok()) return failed(damaged);
    if (cipher != "none") return failed(encrypted);
    if (stretching != "none" || !stretching_options.empty()) return failed(damaged);
    if (keys != 1) return failed("the file must hold exactly one key");
    const bytes_view shown = in.string();
    const bytes_view section = in.string();
    if (!in.done()) return failed(damaged);
    return from_openssh_section(section, shown);
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view space = " \t\r\n";
    std::size_t first = text.find_first_not_of(space);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(space) - first + 1);
}

struct close_file {
    void operator()(std::FILE* file) const { std::fclose(file); }
};

}  // namespace

host_key_reading parse_host_key(std::string_view text) {
    text = trimmed(text);
    if (text.size() > max_file_size) return failed("this is too large for a key");
    if (text.starts_with("ck-")) return from_ck(text.substr(3));
    std::size_t begin = text.find(openssh_begin);
    if (begin != std::string_view::npos) {
        std::string_view body = text.substr(begin + openssh_begin.size());
        std::size_t end = body.find(openssh_end);
        if (end == std::string_view::npos) return failed(damaged);
        std::optional<byte_vector> container = from_base64(trimmed(body.substr(0, end)));
        if (!container) return failed(damaged);
        host_key_reading reading = from_openssh(*container);
        wipe(*container);
        return reading;
    }
    if (text.find("-----BEGIN ") != std::string_view::npos) return from_pem(text);
    return failed("this is neither a PEM key nor a `ck-` key");
}

host_key_reading load_host_key(const std::string& name_or_key) {
    if (name_or_key.starts_with("ck-")) return parse_host_key(name_or_key);
    std::unique_ptr<std::FILE, close_file> file(std::fopen(name_or_key.c_str(), "rbe"));
    auto unreadable = [&](int error) {
        return failed("cannot read key file " + name_or_key + ": " + std::strerror(error));
    };
    if (!file) return unreadable(errno);
    // Unbuffered, so that the library keeps no copy of the key.
    std::setvbuf(file.get(), nullptr, _IONBF, 0);
    secret_bytes content(max_file_size + 1);
    errno = 0;
    std::size_t size = std::fread(content.span().data(), 1, content.size(), file.get());
    if (std::ferror(file.get())) return unreadable(errno);
    host_key_reading reading = size > max_file_size
                                   ? failed("this is too large for a key")
                                   : parse_host_key(as_text(content.view().first(size)));
    if (!reading.key) reading.error = "key file " + name_or_key + ": " + reading.error;
    return reading;
}

}  // namespace burin::crypto
