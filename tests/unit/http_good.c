#include "http_cases.h"

#define GOOD(name, count, in, out) \
	{ \
		name, in, sizeof(in) - 1, out, count, 0, NULL \
	}
#define ASKS(name, count, in, out, answer) \
	{ \
		name, in, sizeof(in) - 1, out, count, 0, answer \
	}

#define HI "GET / HTTP/1.1\r\nHost: v\r\n"
#define HI_OUT "GET / HTTP/1.1\r\n" TO_APP
#define NO "HTTP/1.1 204 No\r\n\r\n"
#define YES "HTTP/1.1 101 Yes\r\n\r\n"
#define SOCKET "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define SOCKET_OUT "Connection: Upgrade\r\nUpgrade: websocket\r\n"

const struct http_case http_good[] = {
    GOOD("plain", 1, GET, GOT),
    GOOD("pipelined", 3, GET GET GET, GOT GOT GOT),
    GOOD("empty lines before", 1, "\r\n\r\n\r\n\r\n" GET, GOT),
    GOOD("empty lines between", 2, GET "\r\n" GET "\r\n\r\n", GOT GOT),
    GOOD("empty lines start anew", 2, "\r\n\r\n\r\n" GET "\r\n\r\n\r\n" GET,
	GOT GOT),
    GOOD("query", 1, "GET /a?b=c&d={e|f} HTTP/1.1\r\nHost: v\r\n\r\n",
	"GET /a?b=c&d={e|f} HTTP/1.1\r\n" TO_APP FROM("v") "\r\n"),
    GOOD("two slashes", 1, "GET //a//b HTTP/1.1\r\nHost: v\r\n\r\n",
	"GET //a//b HTTP/1.1\r\n" TO_APP FROM("v") "\r\n"),
    GOOD("raw UTF-8", 1, "GET /\xc3\xa4 HTTP/1.1\r\nHost: v\r\n\r\n",
	"GET /\xc3\xa4 HTTP/1.1\r\n" TO_APP FROM("v") "\r\n"),
    GOOD("dotted method", 1, "M-SEARCH / HTTP/1.1\r\nHost: v\r\n\r\n",
	"M-SEARCH / HTTP/1.1\r\n" TO_APP FROM("v") "\r\n"),

    GOOD("fields as they are", 1,
	HI "aCCept:\t */* \t\r\nCookie: a=b; c=d\r\nCookie: e\r\n"
	   "X-Obs: \x80\xff\tx\r\nEmpty:\r\n!#$%&'*+.^_`|~0: \"x\"\r\n\r\n",
	HI_OUT
	"aCCept: */*\r\nCookie: a=b; c=d\r\nCookie: e\r\n"
	"X-Obs: \x80\xff\tx\r\nEmpty: \r\n!#$%&'*+.^_`|~0: \"x\"\r\n" FROM(
	    "v") "\r\n"),
    GOOD("expect", 1, POST("Expect: 100-continue\r\n" LENGTH(2)) "ab",
	"POST / HTTP/1.1\r\n" TO_APP "Expect: 100-continue\r\n" FROM("v")
	    LENGTH(2) "\r\nab"),

    GOOD("host with port", 1, "GET / HTTP/1.1\r\nhOST:\tA-b_c.d:8080\r\n\r\n",
	HI_OUT FROM("A-b_c.d:8080") "\r\n"),
    GOOD("host is IPv6", 1, "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n",
	HI_OUT FROM("[2001:db8::1]:80") "\r\n"),
    GOOD("host is empty", 1, "GET / HTTP/1.1\r\nHost:\r\n\r\n",
	HI_OUT FROM_NOWHERE "\r\n"),
    GOOD("absolute-form", 1, "GET HTTP://A:1/b?c HTTP/1.1\r\nHost: v\r\n\r\n",
	"GET /b?c HTTP/1.1\r\n" TO_APP FROM("A:1") "\r\n"),
    GOOD("absolute-form of https", 1,
	"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", HI_OUT FROM("a") "\r\n"),
    GOOD("absolute-form without path", 1,
	"GET http://[::1] HTTP/1.1\r\nHost: v\r\n\r\n",
	HI_OUT FROM("[::1]") "\r\n"),
    GOOD("absolute-form with query only", 1,
	"GET http://a?b/c HTTP/1.1\r\nHost:\r\n\r\n",
	"GET /?b/c HTTP/1.1\r\n" TO_APP FROM("a") "\r\n"),
    GOOD("OPTIONS *", 1, "OPTIONS * HTTP/1.1\r\nHost: v\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\n" TO_APP FROM("v") "\r\n"),
    GOOD("OPTIONS absolute", 1, "OPTIONS http://a HTTP/1.1\r\nHost: v\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\n" TO_APP FROM("a") "\r\n"),
    GOOD("OPTIONS absolute with path", 1,
	"OPTIONS http://a/ HTTP/1.1\r\nHost: v\r\n\r\n",
	"OPTIONS / HTTP/1.1\r\n" TO_APP FROM("a") "\r\n"),

    GOOD("forwarded fields are ours", 1,
	HI "X-Forwarded-For: 1.2.3.4\r\nx-forwarded-proto: https\r\n"
	   "X-FORWARDED-HOST: evil\r\nForwarded: for=1.2.3.4\r\n"
	   "X_Forwarded_For: 1\r\nX-Forwarded_Proto: 2\r\n"
	   "x_forwarded-host: 3\r\nX-Forwarded-Port: 4\r\n\r\n",
	HI_OUT "X-Forwarded-Port: 4\r\n" FROM("v") "\r\n"),
    GOOD("underscored framing is dropped", 1,
	HI "Content_Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n",
	HI_OUT FROM("v") "\r\n"),
    GOOD("hop-by-hop fields", 1,
	HI "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n"
	   "TE: trailers\r\nTrailer: x\r\nHTTP2-Settings: AAMA\r\n\r\n",
	HI_OUT FROM("v") "\r\n"),
    GOOD("connection names fields", 1,
	HI "Connection: Foo, ,bar ,,TE\r\nfoo: 1\r\nBAR: 2\r\nbaz: 3\r\n"
	   "Foo: 4\r\n\r\n",
	HI_OUT "baz: 3\r\n" FROM("v") "\r\n"),
    GOOD("connection names a field before it", 1,
	HI "foo: 1\r\nfoo2: 2\r\nConnection: foo\r\nConnection: bar\r\n"
	   "bar: 3\r\n\r\n",
	HI_OUT "foo2: 2\r\n" FROM("v") "\r\n"),
    GOOD("connection cannot drop what protects", 1,
	POST("Connection: Host, Content-Length, X-Forwarded-For,\r\n"
	     "Connection: Authorization, cookie, X-Forwarded-Port\r\n"
	     "Connection: X_Forwarded_Proto, Transfer-Encoding\r\n"
	     "Authorization: a\r\nCookie: b\r\nX-Forwarded-Port: 1\r\n" LENGTH(
		 1)) "x",
	"POST / HTTP/1.1\r\n" TO_APP
	"Authorization: a\r\nCookie: b\r\nX-Forwarded-Port: 1\r\n" FROM("v")
	    LENGTH(1) "\r\nx"),
    GOOD("connection with nonsense", 2,
	HI "Connection: @, \"close\", =;\r\n\r\n" GET,
	HI_OUT FROM("v") "\r\n" GOT),

    GOOD("close ends it", 1, HI "Connection: CLOSE\r\n\r\n" GET "\r\n",
	HI_OUT FROM("v") "Connection: close\r\n\r\n"),
    GOOD("close after a body", 1,
	POST("Connection: foo,close, keep-alive\r\n" LENGTH(3)) "abc" GET,
	POSTED("Connection: close\r\n" LENGTH(3)) "abc"),
    GOOD("close after chunks", 1,
	POST("Connection: close\r\n" CHUNKED) "0\r\n\r\n" GET,
	POSTED("Connection: close\r\n" CHUNKED) "0\r\n\r\n"),
    GOOD("keep-alive", 2, HI "Connection: Keep-Alive\r\n\r\n" GET,
	HI_OUT FROM("v") "Connection: keep-alive\r\n\r\n" GOT),
    GOOD("1.0", 1, "GET / HTTP/1.0\r\n\r\n" GET,
	"GET / HTTP/1.0\r\n" TO_APP FROM_NOWHERE "\r\n"),
    GOOD("1.0 with host and body", 1,
	"POST / HTTP/1.0\r\nHost: v\r\nContent-Length: 2\r\n\r\nab" GET,
	"POST / HTTP/1.0\r\n" TO_APP FROM("v") LENGTH(2) "\r\nab"),
    GOOD("1.0 keeps alive", 2,
	"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" GET,
	"GET / HTTP/1.0\r\n" TO_APP FROM_NOWHERE
	"Connection: keep-alive\r\n\r\n" GOT),

    GOOD("body", 2, POST("content-length:12\r\n") "GET / HTTP/1" GET,
	POSTED(LENGTH(12)) "GET / HTTP/1" GOT),
    GOOD("empty body", 2, POST(LENGTH(0)) GET, POSTED(LENGTH(0)) GOT),
    GOOD("length with zeros", 2, POST(LENGTH(0003)) "a\r\n" GET,
	POSTED(LENGTH(3)) "a\r\n" GOT),
    GOOD("GET with body", 2, HI LENGTH(1) "\r\nx" GET,
	HI_OUT FROM("v") LENGTH(1) "\r\nx" GOT),
    GOOD("longest body", 1, POST(LENGTH(9223372036854775807)) "x" GET,
	POSTED(LENGTH(9223372036854775807)) "x" GET),
    GOOD("chunks", 2, POST(CHUNKED) "3\r\nabc\r\n1\r\n\r\r\n0\r\n\r\n" GET,
	POSTED(CHUNKED) "3\r\nabc\r\n1\r\n\r\r\n0\r\n\r\n" GOT),
    GOOD("chunks that look like chunks", 2,
	POST("tRANSFER-eNCODING:\tcHUNKED\t\r\n") "5\r\n0\r\n\r\n\r\n00\r\n\r"
						  "\n" GET,
	POSTED(CHUNKED) "5\r\n0\r\n\r\n\r\n0\r\n\r\n" GOT),
    GOOD("no chunks", 2, POST(CHUNKED) "0\r\n\r\n" GET,
	POSTED(CHUNKED) "0\r\n\r\n" GOT),
    GOOD("chunk sizes", 2,
	POST(CHUNKED) "00000000000000A\r\n0123456789\r\n0a\r\n0123456789"
		      "\r\n000000000000000\r\n\r\n" GET,
	POSTED(CHUNKED) "a\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n" GOT),
    GOOD("longest chunk", 1, POST(CHUNKED) "fffffffffffffff\r\nabc",
	POSTED(CHUNKED) "fffffffffffffff\r\nabc"),
    GOOD("chunk extensions", 2,
	POST(CHUNKED) "1;a\r\nx\r\n2;a=\"b;c: \t\xff\";d = e\r\nyz\r\n"
		      "0;\r\n\r\n" GET,
	POSTED(CHUNKED) "1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n" GOT),
    GOOD("trailers", 2,
	POST(CHUNKED
	    "Trailer: foo\r\n") "1\r\nx\r\n0\r\nFoo: bar;:\t1\r\n"
				"Content-Length:5\r\nempty:\r\n\r\n" GET,
	POSTED(CHUNKED) "1\r\nx\r\n0\r\n\r\n" GOT),
    GOOD("chunked GET", 2, HI CHUNKED "\r\n1\r\nx\r\n0\r\n\r\n" GET,
	HI_OUT FROM("v") CHUNKED "\r\n1\r\nx\r\n0\r\n\r\n" GOT),

    ASKS("websocket", 1, HI SOCKET "\r\n\r\n\x01GET /",
	HI_OUT FROM("v") SOCKET_OUT "\r\n\r\n\x01GET /", YES),
    ASKS("websocket refused", 2, HI SOCKET "\r\n" GET,
	HI_OUT FROM("v") SOCKET_OUT "\r\n" GOT, NO),
    ASKS("websocket, other case and order", 1,
	HI "connection: keep-alive, UPGRADE\r\nSec-WebSocket-Key: x\r\n"
	   "UPGRADE:  WebSocket \r\nHTTP2-Settings: x\r\n\r\nx",
	HI_OUT "Sec-WebSocket-Key: x\r\n" FROM(
	    "v") "Connection: keep-alive, Upgrade\r\nUpgrade: "
		 "websocket\r\n\r\nx",
	YES),
    ASKS("websocket with empty body", 1, HI SOCKET LENGTH(0) "\r\nx",
	HI_OUT FROM("v") SOCKET_OUT LENGTH(0) "\r\nx", YES),
    GOOD("websocket with body", 2, HI SOCKET LENGTH(1) "\r\nx" GET,
	HI_OUT FROM("v") LENGTH(1) "\r\nx" GOT),
    GOOD("websocket with chunks", 2, HI SOCKET CHUNKED "\r\n0\r\n\r\n" GET,
	HI_OUT FROM("v") CHUNKED "\r\n0\r\n\r\n" GOT),
    GOOD("websocket by POST", 2, POST(SOCKET) GET, POSTED("") GOT),
    GOOD("websocket in 1.0", 1, "GET / HTTP/1.0\r\n" SOCKET "\r\n" GET,
	"GET / HTTP/1.0\r\n" TO_APP FROM_NOWHERE "\r\n"),
    GOOD("websocket in 1.0 that keeps alive", 2,
	"GET / HTTP/1.0\r\nUpgrade: websocket\r\n"
	"Connection: keep-alive, upgrade\r\n\r\n" GET,
	"GET / HTTP/1.0\r\n" TO_APP FROM_NOWHERE
	"Connection: keep-alive\r\n\r\n" GOT),
    GOOD("websocket and close", 1, HI SOCKET "Connection: close\r\n\r\nx",
	HI_OUT FROM("v") "Connection: close\r\n\r\n"),
    GOOD("websocket unconnected", 2, HI "Upgrade: websocket\r\n\r\n" GET,
	HI_OUT FROM("v") "\r\n" GOT),
    GOOD("connection without upgrade", 2, HI "Connection: upgrade\r\n\r\n" GET,
	HI_OUT FROM("v") "\r\n" GOT),
    GOOD("websocket twice", 2, HI SOCKET "Upgrade: websocket\r\n\r\n" GET,
	HI_OUT FROM("v") "\r\n" GOT),
    GOOD("websocket or h2c", 2,
	HI "Upgrade: websocket, h2c\r\nConnection: upgrade\r\n\r\n" GET,
	HI_OUT FROM("v") "\r\n" GOT),
    GOOD("h2c", 2,
	HI "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
	   "HTTP2-Settings: AAMA\r\n\r\n" GET,
	HI_OUT FROM("v") "\r\n" GOT),
};
const size_t http_good_len = sizeof(http_good) / sizeof(http_good[0]);
