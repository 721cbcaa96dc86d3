package io.github.coatcheckgo.session;

import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;

/** A proxy whose connections can go silent, without a word, or lead to another server. */
final class SilentProxy implements AutoCloseable {
    private final ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    private final List<Link> links = new CopyOnWriteArrayList<>();
    private volatile int to;
    private volatile String fatal;

    private static final class Link {
        final Socket a;
        final Socket b;
        volatile boolean silent;
        volatile boolean losesReplies;

        Link(Socket a, Socket b) {
            this.a = a;
            this.b = b;
        }
    }

    SilentProxy(int to) throws IOException {
        this.to = to;
        run(() -> {
            while (true) {
                Socket a = listener.accept();
                try {
                    Link link = new Link(a, new Socket(InetAddress.getLoopbackAddress(), this.to));
                    links.add(link);
                    run(() -> pump(link, link.a, link.b));
                    run(() -> pump(link, link.b, link.a));
                } catch (IOException e) { // the server is down
                    a.close();
                }
            }
        });
    }

    private interface Body {
        void run() throws IOException;
    }

    private static void run(Body body) {
        Thread t = new Thread(() -> {
            try {
                body.run();
            } catch (IOException e) {
                // It is closed.
            }
        });
        t.setDaemon(true);
        t.start();
    }

    private void pump(Link link, Socket from, Socket to) throws IOException {
        InputStream in = from.getInputStream();
        byte[] buffer = new byte[8192];
        String command = "";
        for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
            String text = fatal;
            if (text != null && from == link.a) {
                command += new String(buffer, 0, n, StandardCharsets.ISO_8859_1);
                if (command.contains(text)) {
                    fatal = null;
                    link.losesReplies = true;
                }
            }
            if (!link.silent && !(link.losesReplies && from == link.b)) {
                to.getOutputStream().write(buffer, 0, n);
            }
        }
        to.close();
    }

    String url() {
        return "redis://127.0.0.1:" + listener.getLocalPort();
    }

    /** Lets nothing pass on the present connections any more. New ones work. */
    void silence() {
        links.forEach(link -> link.silent = true);
    }

    /** Keeps the replies of the present connections back. Commands still reach the server. */
    void loseReplies() {
        links.forEach(link -> link.losesReplies = true);
    }

    /** Keeps the replies back on the connection on which a command with this text comes next. */
    void loseRepliesFrom(String text) {
        fatal = text;
    }

    /** Leads new connections to another server, and closes the present ones. */
    void redirect(int port) throws IOException {
        to = port;
        closeLinks();
    }

    private void closeLinks() throws IOException {
        for (Link link : links) {
            link.a.close();
            link.b.close();
        }
    }

    @Override
    public void close() throws IOException {
        listener.close();
        closeLinks();
    }
}
