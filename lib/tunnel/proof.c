#include "tunnel/proof.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

int
proof_make(const uint8_t secret[INS_SECRET_SIZE], bool server,
    const struct ins_proof *in, uint8_t proof[INS_PROOF_SIZE])
{
	uint8_t buf[INS_PROOF_MAX];
	size_t n = ins_proof_encode(buf, sizeof(buf), server, in);
	unsigned len = 0;

	if (n == 0 ||
	    HMAC(EVP_sha256(), secret, INS_SECRET_SIZE, buf, n, proof, &len) ==
		NULL ||
	    len != INS_PROOF_SIZE)
		return -1;
	return 0;
}

bool
proof_check(const uint8_t secret[INS_SECRET_SIZE], bool server,
    const struct ins_proof *in, const uint8_t *proof)
{
	uint8_t right[INS_PROOF_SIZE];

	return proof_make(secret, server, in, right) == 0 &&
	    CRYPTO_memcmp(right, proof, sizeof(right)) == 0;
}
