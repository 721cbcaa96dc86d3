package io.github.coatcheckgo.servlet;

import io.github.coatcheckgo.session.Session;
import io.github.coatcheckgo.session.SessionException;
import io.github.coatcheckgo.session.SessionException.Kind;
import io.github.coatcheckgo.session.Sessions;
import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.Collections;
import java.util.List;
import java.util.function.Predicate;

/**
 * The Servlet filter. Handlers inside it get their session with {@link #session}. What they change
 * is committed before the first byte of the response leaves. If the commit fails, the client gets
 * an error, and what the handler writes is dropped. An exception that reaches the filter discards
 * the changes.
 *
 * <p>Map it to the dispatcher types REQUEST and ASYNC, and allow it asynchronous requests. It does
 * not replace {@code request.getSession()}: for that, see the Spring Session repository.
 */
public final class SessionFilter implements Filter {
    /** The header that carries a CSRF token. */
    public static final String CSRF_HEADER = "X-CSRF-Token";
    /** The form field that carries a CSRF token. */
    public static final String CSRF_FIELD = "csrf_token";

    private static final String ATTRIBUTE = "io.github.coatcheckgo.session";

    /** Writes the response to an error. */
    @FunctionalInterface
    public interface ErrorHandler {
        /** The status, Retry-After and WWW-Authenticate are set already. */
        void handle(HttpServletRequest request, HttpServletResponse response, SessionException e) throws IOException;
    }

    private final Sessions sessions;
    private Predicate<HttpServletRequest> csrfExempt = r -> false;
    private ErrorHandler onError = (r, w, e) -> Exchange.plainText(w, e);

    public SessionFilter(Sessions sessions) {
        this.sessions = sessions;
    }

    /** Exempts requests from the check of CSRF tokens, such as a webhook. Default: none. */
    public SessionFilter csrfExempt(Predicate<HttpServletRequest> exempt) {
        csrfExempt = exempt;
        return this;
    }

    /** Replaces the plain-text responses to errors. */
    public SessionFilter onError(ErrorHandler handler) {
        onError = handler;
        return this;
    }

    /**
     * Returns the request's session. The first call reads it: one round trip.
     *
     * @throws SessionException those of {@link Session#read}. Let it pass: the filter responds to
     *     it
     */
    public static Session session(ServletRequest request) {
        return unread(request).read();
    }

    /**
     * Ends the request's session, also if it cannot be read.
     *
     * @throws SessionException those of {@link Session#signOut}
     */
    public static void signOut(ServletRequest request) {
        unread(request).signOut();
    }

    private static Session unread(ServletRequest request) {
        if (request.getAttribute(ATTRIBUTE) instanceof Exchange x) {
            return x.session;
        }
        throw new IllegalStateException("no session in this request: map SessionFilter to it");
    }

    @Override
    public void doFilter(ServletRequest r, ServletResponse w, FilterChain chain) throws IOException, ServletException {
        if (!(r instanceof HttpServletRequest request) || !(w instanceof HttpServletResponse response)) {
            chain.doFilter(r, w);
            return;
        }
        if (r.getAttribute(ATTRIBUTE) instanceof Exchange x) {
            switch (r.getDispatcherType()) {
                case ASYNC -> run(x, request, response, chain); // the request goes on
                default -> chain.doFilter(r, w); // one session, one cookie
            }
            return;
        }
        List<String> cookies = Collections.list(request.getHeaders("Cookie"));
        List<String> trusted = sessions.trustedOrigins();
        List<String> authorization = Collections.list(request.getHeaders("Authorization"));
        Session session = sessions.begin(cookies, authorization, () -> CrossOrigin.check(request, trusted));
        Exchange x = new Exchange(session, request, response, onError);
        request.setAttribute(ATTRIBUTE, x);
        try {
            check(session, request, trusted);
        } catch (SessionException e) {
            x.fail(e);
            return;
        }
        run(x, x.request, x.response, chain);
    }

    private static void run(Exchange x, HttpServletRequest request, HttpServletResponse response, FilterChain chain)
        throws IOException, ServletException {
        boolean returned = false;
        try {
            chain.doFilter(request, response);
            returned = true;
        } catch (IOException | ServletException | RuntimeException e) {
            SessionException cause = sessionException(e);
            if (cause == null) {
                throw e;
            }
            x.fail(cause);
            returned = true;
        } finally {
            if (!returned) {
                x.unwind(null);
            }
        }
        if (!request.isAsyncStarted()) {
            x.finish();
        }
    }

    /** Frameworks wrap what a handler throws. */
    private static SessionException sessionException(Throwable e) {
        for (int depth = 0; e != null && depth < 10; depth++, e = e.getCause()) {
            if (e instanceof SessionException found) {
                return found;
            }
        }
        return null;
    }

    /** Refuses what another site has caused, and what lacks a CSRF token. */
    private void check(Session session, HttpServletRequest r, List<String> trusted) {
        if (!session.inCookie()) {
            return;
        }
        String why = CrossOrigin.check(r, trusted);
        if (why != null) {
            throw new SessionException(Kind.CROSS_ORIGIN, why);
        }
        if (!sessions.csrf() || CrossOrigin.isSafe(r.getMethod()) || csrfExempt.test(r)) {
            return;
        }
        session.read();
        if (!session.isOpen()) {
            return; // the client could have left the cookie out
        }
        String token = r.getHeader(CSRF_HEADER);
        session.checkCsrf(token != null && !token.isEmpty() ? token : r.getParameter(CSRF_FIELD));
    }
}
