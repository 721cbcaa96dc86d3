package io.github.coatcheckgo.servlet;

import io.github.coatcheckgo.session.Session;
import io.github.coatcheckgo.session.SessionException;
import jakarta.servlet.AsyncContext;
import jakarta.servlet.AsyncEvent;
import jakarta.servlet.AsyncListener;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletRequestWrapper;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.lang.System.Logger.Level;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/** One request and its response. */
final class Exchange {
    private static final System.Logger LOG = System.getLogger("coatcheck");

    /** Headers of a body, or of a success, and not of the error that replaces it. */
    private static final Set<String> BODY_HEADERS = Set.of("accept-ranges", "cache-control", "cdn-cache-control", "clear-site-data",
        "content-disposition", "content-encoding", "content-language", "content-length", "content-location", "content-range",
        "content-type", "etag", "expires", "last-modified", "location", "refresh", "set-cookie", "surrogate-control", "trailer");

    final Session session;
    final HttpServletRequest request;
    final SessionResponse response;
    private final HttpServletResponse out;
    private final SessionFilter.ErrorHandler onError;
    private final List<String[]> written = new ArrayList<>(); // the session's headers
    private boolean began; // the header may have left, or that of an error instead
    private boolean swallow; // the response is an error; what the handler writes is dropped
    private boolean finished;
    private boolean flush; // the header sets a cookie

    Exchange(Session session, HttpServletRequest r, HttpServletResponse w, SessionFilter.ErrorHandler onError) {
        this.session = session;
        this.onError = onError;
        out = w;
        response = new SessionResponse(w, this);
        request = new Request(r);
    }

    /**
     * Commits before the first byte of a response with this status. Returns whether it goes to the
     * client.
     */
    synchronized boolean begin(int status) {
        if (began) {
            return !swallow;
        }
        began = true;
        try {
            session.commitBeforeHeader(!out.isCommitted());
        } catch (SessionException e) {
            // A handler that knows of the error may answer itself.
            if (!session.wasReported() || status < 400) {
                fail(e);
                return false;
            }
        }
        flush = writeHeaders();
        return true;
    }

    /**
     * Reports, once, that the header sets a cookie. In a buffer it could wait, while others bring
     * newer ones.
     */
    synchronized boolean flushCookie() {
        boolean due = flush;
        flush = false;
        return due;
    }

    private boolean writeHeaders() {
        return session.writeHeaders(new Session.Headers() {
            @Override
            public void add(String name, String value) {
                written.add(new String[] {name, value});
                out.addHeader(name, value);
            }

            @Override
            public void set(String name, String value) {
                written.add(new String[] {name, value});
                out.setHeader(name, value);
            }

            @Override
            public Collection<String> get(String name) {
                return out.getHeaders(name);
            }
        });
    }

    /** Writes the headers again that a reset of the response has removed. */
    synchronized void afterReset() {
        written.forEach(h -> out.addHeader(h[0], h[1]));
    }

    /** Answers with an error instead of what the handler writes. */
    synchronized void fail(SessionException e) {
        began = true;
        swallow = true;
        session.abandon(e);
        log(e);
        if (out.isCommitted()) {
            return;
        }
        keepHeaders();
        writeHeaders();
        out.setStatus(e.status());
        if (e.status() == 503 && e.kind() != SessionException.Kind.UNKNOWN_OUTCOME) {
            // An unknown outcome must not be repeated without a look
            out.setHeader("Retry-After", "1");
        } else if (e.status() == 401) {
            out.setHeader("WWW-Authenticate", "Bearer realm=\"session\"");
        }
        try {
            onError.handle((HttpServletRequest) ((HttpServletRequestWrapper) request).getRequest(), out, e);
        } catch (IOException gone) {
            LOG.log(Level.DEBUG, "the client is gone", gone);
        }
    }

    /** Resets the response, and keeps the headers that others have set. */
    private void keepHeaders() {
        List<String[]> kept = new ArrayList<>();
        for (String name : new java.util.LinkedHashSet<>(out.getHeaderNames())) {
            if (!BODY_HEADERS.contains(name.toLowerCase(Locale.ROOT))) {
                out.getHeaders(name).forEach(value -> kept.add(new String[] {name, value}));
            }
        }
        out.reset();
        kept.forEach(h -> out.addHeader(h[0], h[1]));
    }

    static void plainText(HttpServletResponse w, SessionException e) throws IOException {
        byte[] text = (e.clientMessage() + "\n").getBytes(StandardCharsets.UTF_8);
        w.setContentType("text/plain; charset=utf-8");
        w.setHeader("X-Content-Type-Options", "nosniff");
        w.setContentLength(text.length);
        w.getOutputStream().write(text);
        w.flushBuffer();
    }

    private void log(SessionException e) {
        Level level = e.kind() == SessionException.Kind.NOT_SIGNED_IN ? Level.DEBUG : e.status() < 500 ? Level.INFO : Level.ERROR;
        LOG.log(level, "session: request failed: " + request.getMethod() + " " + request.getRequestURI() + ": " + e.getMessage(), e);
    }

    /** Commits what the handler changed and did not write a response for. */
    synchronized void finish() {
        if (finished) {
            return;
        }
        finished = true;
        boolean late = began;
        begin(response.getStatus());
        if (late && !swallow) {
            try {
                session.commitBeforeHeader(false);
            } catch (SessionException e) {
                if (!session.wasReported()) {
                    LOG.log(Level.ERROR, "session: changes made after the response header were lost", e);
                }
            }
        }
        session.touch();
    }

    /**
     * Drops the changes, after an exception of the handler. A token that is stored leaves
     * nevertheless.
     */
    synchronized void unwind(Throwable why) {
        finished = true;
        if (swallow) {
            return;
        }
        session.abandon(new SessionException(SessionException.Kind.INVALID, "the handler failed: its changes are discarded", why));
        if (!began && !out.isCommitted()) {
            writeHeaders();
        }
        began = true;
    }

    private final class Request extends HttpServletRequestWrapper {
        Request(HttpServletRequest r) {
            super(r);
        }

        @Override
        public AsyncContext startAsync() {
            return startAsync(this, response);
        }

        @Override
        public AsyncContext startAsync(ServletRequest r, ServletResponse w) {
            return async(super.startAsync(r, w));
        }

        @Override
        public AsyncContext getAsyncContext() {
            return wrapped(super.getAsyncContext());
        }
    }

    private AsyncContext async(AsyncContext context) {
        context.addListener(new AsyncListener() {
            @Override
            public void onComplete(AsyncEvent event) {
                finish();
            }

            @Override
            public void onTimeout(AsyncEvent event) {
                session.discard();
            }

            @Override
            public void onError(AsyncEvent event) {
                unwind(event.getThrowable());
            }

            @Override
            public void onStartAsync(AsyncEvent event) {
                event.getAsyncContext().addListener(this);
            }
        });
        return wrapped(context);
    }

    /** Commits before complete sends a response that the handler has not begun. */
    private AsyncContext wrapped(AsyncContext context) {
        InvocationHandler handler = (proxy, method, arguments) -> {
            if (method.getName().equals("complete")) {
                finish();
            }
            try {
                return method.invoke(context, arguments);
            } catch (InvocationTargetException e) {
                throw e.getCause();
            }
        };
        return (AsyncContext) Proxy.newProxyInstance(AsyncContext.class.getClassLoader(), new Class<?>[] {AsyncContext.class}, handler);
    }
}
