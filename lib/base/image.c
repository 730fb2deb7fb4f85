#include "base/image.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROOM_FIRST 65536
#define ROOM_MORE (64 << 20) /* no more than so much is in vain */

void
image_free(struct image_writer *w)
{
	if (w->data != NULL) {
		munmap(w->data, w->room);
		close(w->fd);
	}
	free(w->fds);
	*w = (struct image_writer){0};
}

/* The pages are had here: a write to the mapping must not fail. */
static bool
map_more(struct image_writer *w, size_t room)
{
	void *data;

	if (fallocate(w->fd, 0, (off_t)w->room, (off_t)(room - w->room)) < 0)
		return false;
	data = w->data == NULL ?
	    mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0) :
	    mremap(w->data, w->room, room, MREMAP_MAYMOVE);
	if (data == MAP_FAILED)
		return false;
	w->data = data;
	w->room = room;
	return true;
}

static bool
enlarge(struct image_writer *w, size_t room)
{
	if (w->data != NULL)
		return map_more(w, room);
	w->fd = memfd_create("port-proxy state", MFD_CLOEXEC);
	if (w->fd < 0)
		return false;
	if (map_more(w, room))
		return true;
	close(w->fd);
	return false;
}

/* Room for len bytes; NULL when memory ran out. */
static uint8_t *
grow(struct image_writer *w, size_t len)
{
	size_t room = w->room;

	if (w->failed)
		return NULL;
	while (room - w->len < len)
		room += room == 0    ? ROOM_FIRST :
		    room < ROOM_MORE ? room :
				       ROOM_MORE;
	if (room != w->room && !enlarge(w, room)) {
		w->failed = true;
		return NULL;
	}
	w->len += len;
	return w->data + w->len - len;
}

void
image_put(struct image_writer *w, uint64_t v)
{
	uint8_t *p = grow(w, 8);
	int i;

	for (i = 0; p != NULL && i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
}

void
image_put_bytes(struct image_writer *w, const void *data, size_t len)
{
	uint8_t *p;

	image_put(w, len);
	p = grow(w, len);
	if (p != NULL && len > 0)
		memcpy(p, data, len);
}

void
image_put_text(struct image_writer *w, const char *text)
{
	image_put_bytes(w, text, strlen(text));
}

void
image_put_tag(struct image_writer *w, const char tag[4])
{
	uint8_t *p = grow(w, 4);

	if (p != NULL)
		memcpy(p, tag, 4);
}

void
image_put_fd(struct image_writer *w, int fd)
{
	size_t room = w->fds_room == 0 ? 64 : 2 * w->fds_room;
	int *fds;

	image_put(w, w->nfds);
	if (w->nfds == w->fds_room) {
		fds = realloc(w->fds, room * sizeof(*fds));
		if (fds == NULL) {
			w->failed = true;
			return;
		}
		w->fds = fds;
		w->fds_room = room;
	}
	w->fds[w->nfds++] = fd;
}

void
image_fail(struct image_reader *r)
{
	if (!r->failed)
		r->lost = r->at;
	r->failed = true;
	r->at = r->end;
}

uint64_t
image_take(struct image_reader *r, uint64_t max)
{
	uint64_t v = 0;
	int i;

	if (r->end - r->at < 8) {
		image_fail(r);
		return 0;
	}
	for (i = 0; i < 8; i++)
		v = v << 8 | *r->at++;
	if (v > max) {
		image_fail(r);
		return 0;
	}
	return v;
}

bool
image_take_bool(struct image_reader *r)
{
	return image_take(r, 1) == 1;
}

const uint8_t *
image_take_bytes(struct image_reader *r, size_t *len)
{
	const uint8_t *p;

	*len = (size_t)image_take(r, SIZE_MAX);
	if (*len > (size_t)(r->end - r->at)) {
		image_fail(r);
		*len = 0;
	}
	p = r->at;
	r->at += *len;
	return p;
}

void
image_take_exact(struct image_reader *r, void *buf, size_t len)
{
	const uint8_t *p;
	size_t got;

	if (len > 0)
		memset(buf, 0, len);
	p = image_take_bytes(r, &got);
	if (got != len)
		image_fail(r);
	else if (len > 0)
		memcpy(buf, p, len);
}

void
image_take_text(struct image_reader *r, char *buf, size_t size)
{
	const uint8_t *p;
	size_t len;

	p = image_take_bytes(r, &len);
	if (len >= size || (len > 0 && memchr(p, '\0', len) != NULL)) {
		image_fail(r);
		len = 0;
	}
	if (len > 0)
		memcpy(buf, p, len);
	buf[len] = '\0';
}

int
image_take_fd(struct image_reader *r)
{
	uint64_t i = image_take(r, SIZE_MAX);
	int fd;

	if (r->failed || i >= r->nfds || r->fds[i] < 0) {
		image_fail(r);
		return -1;
	}
	fd = r->fds[i];
	r->fds[i] = -1;
	return fd;
}

bool
image_take_tag(struct image_reader *r, const char tag[4])
{
	if (r->end - r->at < 4 || memcmp(r->at, tag, 4) != 0) {
		image_fail(r);
		return false;
	}
	r->at += 4;
	return true;
}
