#include "http.h"

#define ERROR(code, reason, len) \
	{ \
		code, sizeof(ERROR_TEXT(code, reason, len)) - 1, \
		    ERROR_TEXT(code, reason, len) \
	}
/* len is what the body's sizeof says; the unit test holds us to it. */
#define ERROR_TEXT(code, reason, len) \
	"HTTP/1.1 " #code " " reason "\r\n" \
	"Content-Type: text/plain\r\n" \
	"Content-Length: " #len "\r\n" \
	"Connection: close\r\n" \
	"\r\n" #code " " reason "\n"

static const struct {
	int code;
	size_t len;
	const char *text;
} errors[] = {
    ERROR(400, "Bad Request", 16),
    ERROR(431, "Request Header Fields Too Large", 36),
    ERROR(501, "Not Implemented", 20),
    ERROR(502, "Bad Gateway", 16),
    ERROR(503, "Service Unavailable", 24),
    ERROR(504, "Gateway Timeout", 20),
    ERROR(505, "HTTP Version Not Supported", 31),
};

const char *
http_error(int code, size_t *len)
{
	size_t i = sizeof(errors) / sizeof(errors[0]) - 1;

	while (i > 0 && errors[i].code != code)
		i--;
	*len = errors[i].len;
	return errors[i].text;
}
