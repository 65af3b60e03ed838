// A provider for the benchmark of the sidecar: fast enough not to be what is measured.
// `?burst` answers with 20 events at once, `?slow` with one every half second. A text that ends with
// "Answer burst." or "Answer paced." asks for a burst, or for one event every 10 ms: for gateways
// that drop the query.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const usage = `"usage":{"input_tokens":7,"output_tokens":5,"cache_read_input_tokens":5000,` +
	`"cache_creation_input_tokens":0}`

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func main() {
	whole := `{"id":"msg_1","type":"message","role":"assistant","model":"claude-opus-4-8",` +
		`"content":[{"type":"text","text":"` + strings.Repeat("x", 800) + `"}],` +
		`"stop_reason":"end_turn","stop_sequence":null,` + usage + `}`
	events := []string{
		event("message_start", `"message":{"id":"msg_1","type":"message","role":"assistant",`+
			`"model":"claude-opus-4-8","content":[],"stop_reason":null,"stop_sequence":null,`+
			usage+`}`),
		event("content_block_start", `"index":0,"content_block":{"type":"text","text":""}`),
	}
	for len(events) < 17 {
		events = append(events, event("content_block_delta",
			`"index":0,"delta":{"type":"text_delta","text":"some words of an answer"}`))
	}
	events = append(events,
		event("content_block_stop", `"index":0`),
		event("message_delta", `"delta":{"stop_reason":"end_turn","stop_sequence":null},`+
			`"usage":{"output_tokens":5}`),
		"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
	pauses := map[string]time.Duration{"slow": 500 * time.Millisecond, "paced": 10 * time.Millisecond}

	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		asked := buffers.Get().(*bytes.Buffer)
		defer buffers.Put(asked)
		asked.Reset()
		asked.ReadFrom(r.Body)
		manner := r.URL.RawQuery
		for _, each := range []string{"burst", "paced"} {
			if bytes.Contains(asked.Bytes(), []byte("Answer "+each+".")) {
				manner = each
			}
		}
		if manner != "burst" && pauses[manner] == 0 {
			w.Header().Set("content-type", "application/json")
			io.WriteString(w, whole)
			return
		}
		w.Header().Set("content-type", "text/event-stream")
		for _, each := range events {
			io.WriteString(w, each)
			w.(http.Flusher).Flush()
			time.Sleep(pauses[manner])
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	panic(http.Serve(listener, nil))
}

func event(kind, fields string) string {
	return fmt.Sprintf("event: %s\ndata: {\"type\":\"%s\",%s}\n\n", kind, kind, fields)
}
