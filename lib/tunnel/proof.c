#include "tunnel/proof.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "cursor.h"

/* So that no other use of a secret can give the same bytes. */
static const char label[] = "port-proxy resume 1";

#define PROOF_INPUT_MAX \
	(sizeof(label) + 1 + 2 * INS_INSTANCE_SIZE + 8 + 2 + INS_NAME_MAX + \
	    8 + 2 * INS_NONCE_SIZE + 8 + 8 + 8 + 2)

int
proof_make(const uint8_t secret[INS_SECRET_SIZE], bool server,
    const struct proof_input *in, uint8_t proof[INS_PROOF_SIZE])
{
	uint8_t buf[PROOF_INPUT_MAX];
	struct writer w = {buf, buf + sizeof(buf), false};
	unsigned len = 0;

	writer_bytes(&w, label, sizeof(label));
	writer_uint(&w, server, 1);
	writer_bytes(&w, in->client_instance, INS_INSTANCE_SIZE);
	writer_bytes(&w, in->server_instance, INS_INSTANCE_SIZE);
	writer_uint(&w, in->server_start, 8);
	writer_uint(&w, in->name.len, 2);
	writer_bytes(&w, in->name.data, in->name.len);
	writer_uint(&w, in->session, 8);
	writer_bytes(&w, in->client_nonce, INS_NONCE_SIZE);
	writer_bytes(&w, in->server_nonce, INS_NONCE_SIZE);
	writer_uint(&w, in->attempt, 8);
	writer_uint(&w, in->client_offset, 8);
	if (server)
		writer_uint(&w, in->server_offset, 8);
	/* The channel binding: a carrier without one. */
	writer_uint(&w, 0, 2);
	if (w.failed ||
	    HMAC(EVP_sha256(), secret, INS_SECRET_SIZE, buf,
		(size_t)(w.at - buf), proof, &len) == NULL ||
	    len != INS_PROOF_SIZE)
		return -1;
	return 0;
}

bool
proof_check(const uint8_t secret[INS_SECRET_SIZE], bool server,
    const struct proof_input *in, const uint8_t *proof)
{
	uint8_t right[INS_PROOF_SIZE];

	return proof_make(secret, server, in, right) == 0 &&
	    CRYPTO_memcmp(right, proof, sizeof(right)) == 0;
}
