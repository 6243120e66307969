// library.h - libevent, opened when it is first needed.
#ifndef CFT_SERVE_LIBRARY_H
#define CFT_SERVE_LIBRARY_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>

#include "base.h"

#define CFT_EVENT_FUNCTIONS(XX)         \
  XX(event_set_log_callback)            \
  XX(event_base_new)                    \
  XX(event_base_free)                   \
  XX(event_base_loop)                   \
  XX(event_new)                         \
  XX(event_add)                         \
  XX(event_del)                         \
  XX(event_free)                        \
  XX(evconnlistener_new)                \
  XX(evconnlistener_free)               \
  XX(evconnlistener_enable)             \
  XX(evconnlistener_disable)            \
  XX(evconnlistener_set_error_cb)       \
  XX(evbuffer_new)                      \
  XX(evbuffer_free)                     \
  XX(evbuffer_add)                      \
  XX(evbuffer_add_cb)                   \
  XX(evbuffer_drain)                    \
  XX(evbuffer_get_length)               \
  XX(evbuffer_pullup)                   \
  XX(bufferevent_socket_new)            \
  XX(bufferevent_free)                  \
  XX(bufferevent_incref)                \
  XX(bufferevent_decref)                \
  XX(bufferevent_getcb)                 \
  XX(bufferevent_getfd)                 \
  XX(bufferevent_get_input)             \
  XX(bufferevent_get_output)            \
  XX(evhttp_new)                        \
  XX(evhttp_free)                       \
  XX(evhttp_bind_listener)              \
  XX(evhttp_del_accept_socket)          \
  XX(evhttp_set_gencb)                  \
  XX(evhttp_set_bevcb)                  \
  XX(evhttp_set_timeout)                \
  XX(evhttp_set_max_headers_size)       \
  XX(evhttp_set_max_body_size)          \
  XX(evhttp_set_allowed_methods)        \
  XX(evhttp_set_default_content_type)   \
  XX(evhttp_find_header)                \
  XX(evhttp_add_header)                 \
  XX(evhttp_remove_header)              \
  XX(evhttp_uri_get_host)               \
  XX(evhttp_uri_get_path)               \
  XX(evhttp_request_get_command)        \
  XX(evhttp_request_get_connection)     \
  XX(evhttp_request_get_evhttp_uri)     \
  XX(evhttp_request_get_input_buffer)   \
  XX(evhttp_request_get_input_headers)  \
  XX(evhttp_request_get_output_headers) \
  XX(evhttp_request_free)               \
  XX(evhttp_connection_free)            \
  XX(evhttp_connection_get_bufferevent) \
  XX(evhttp_connection_set_closecb)     \
  XX(evhttp_send_reply)                 \
  XX(evhttp_send_reply_start)           \
  XX(evhttp_send_reply_chunk)           \
  XX(evhttp_send_reply_end)

typedef struct cft_event {
#define XX(name) __typeof__(&name) name;
  CFT_EVENT_FUNCTIONS(XX)
#undef XX
} cft_event;

// The functions, valid until the program ends. E_UNSUPPORTED where the library is missing.
cft_status cft_event_open(const cft_event **out);

#endif
