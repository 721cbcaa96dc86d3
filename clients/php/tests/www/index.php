<?php

declare(strict_types=1);

// The pages of the tests that use a real web server. /plain/ uses Manager::serve, /native/
// $_SESSION.

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Config;
use Coatcheck\Session\Counter;
use Coatcheck\Session\Counters;
use Coatcheck\Session\Login;
use Coatcheck\Session\Manager;
use Coatcheck\Session\Map;
use Coatcheck\Session\Session;
use Coatcheck\Session\SessionHandler;
use Coatcheck\Session\Store;
use Coatcheck\Session\Value;

require_once dirname(__DIR__) . '/bootstrap.php';

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
parse_str((string) parse_url($_SERVER['REQUEST_URI'], PHP_URL_QUERY), $query);
if ($path === '/ping') {
    echo getenv('COATCHECK_WEB');
    return;
}
$namespace = $query['ns'] ?? 'www';

/** Tells the test that the page has read its session, and waits until the test goes on. */
function waitForTest(string $namespace): void
{
    $redis = new \Redis();
    $redis->connect('127.0.0.1', (int) parse_url(getenv('COATCHECK_REDIS'), PHP_URL_PORT), RedisServer::PATIENCE, null, 0, 2 * RedisServer::PATIENCE);
    $redis->rPush("$namespace-read", '1');
    $redis->blPop(["$namespace-go"], (int) RedisServer::PATIENCE);
}

/** Adds to the user's basket, and shows it. */
function basket(Session $s, array $query): void
{
    $basket = new Counters('basket');
    if (isset($query['add'])) {
        $basket->add($s->userData(), $query['add'], (int) ($query['n'] ?? 1));
    }
    if (isset($query['wait'])) {
        waitForTest($query['ns']);
    }
    echo json_encode(iterator_to_array($basket->all($s->userData())));
}

$manager = new Manager(
    Store::connect(getenv('COATCHECK_REDIS'), $namespace, timeout: RedisServer::PATIENCE),
    new Config(keepFields: ['cart', 'count'], userFields: [new Counters('basket'), new Value('theme')], csrf: isset($query['csrf'])),
);

if (str_starts_with($path, '/plain/')) {
    $manager->serve(function (Session $s) use ($manager, $path, $query, $namespace): void {
        $counter = new Counter('count');
        switch ($path) {
            case '/plain/add':
                $counter->add($s);
                (new Map('pages'))->set($s, $query['key'] ?? 'k', (int) ($query['n'] ?? 1));
                usleep((int) ($query['us'] ?? 0));
                echo 'added';
                break;
            case '/plain/show':
                echo json_encode([
                    'count' => $counter->get($s), 'pages' => iterator_to_array((new Map('pages'))->all($s)), 'user' => $s->user(),
                ]);
                break;
            case '/plain/signin':
                $s->signIn(new Login($query['user'] ?? 'ada'));
                echo 'welcome';
                break;
            case '/plain/signout':
                $s->signOut();
                echo 'bye';
                break;
            case '/plain/basket':
                $counter->add($s);
                basket($s, $query);
                break;
            case '/plain/slow': // reads, waits for the test, writes
                (new Value('slow'))->get($s);
                waitForTest($namespace);
                (new Value('slow'))->set($s, 'written');
                echo 'done';
                break;
            case '/plain/throw':
                $counter->add($s);
                echo 'never seen';
                throw new \RuntimeException('the page fails');
            case '/plain/exit': // how plain PHP redirects
                $counter->add($s);
                match ($query['and'] ?? '') {
                    'signin' => $s->signIn(new Login('ada')),
                    'signout' => $s->signOut(),
                    'buffer' => ob_start(),
                    'revoke' => $manager->revokeUser('ada'),
                    default => null,
                };
                header('Location: /plain/show');
                echo 'moved';
                exit;
            case '/plain/fatal':
                $counter->add($s);
                echo 'never seen';
                eval('class Twice {} class Twice {}');
                break;
            case '/plain/csrf':
                echo $s->csrfToken();
                break;
        }
    });
    return;
}

$handler = SessionHandler::register($manager);
session_start();
header('X-Session-Id: ' . session_id());
switch ($path) {
    case '/native/set':
        $_SESSION[$query['key']] = json_decode($query['value'], true);
        usleep((int) ($query['us'] ?? 0));
        echo 'set';
        break;
    case '/native/unset':
        unset($_SESSION[$query['key']]);
        break;
    case '/native/show':
        echo json_encode($_SESSION, JSON_PRESERVE_ZERO_FRACTION);
        break;
    case '/native/type':
        echo get_debug_type($_SESSION[$query['key']] ?? null);
        break;
    case '/native/count':
        (new Counter('count'))->add($handler->session());
        break;
    case '/native/signin':
        $handler->signIn(new Login('ada'));
        echo json_encode($_SESSION);
        break;
    case '/native/basket':
        basket($handler->session(), $query);
        if (isset($query['flush'])) {
            while (ob_get_level() > 0) {
                ob_end_flush();
            }
            flush();
            (new Counters('basket'))->add($handler->session()->userData(), $query['flush']);
        }
        break;
    case '/native/regenerate':
        session_regenerate_id(isset($query['delete']));
        header('X-Session-Id: ' . session_id());
        break;
    case '/native/destroy':
        session_destroy();
        if (isset($query['signin'])) {
            $handler->signIn(new Login($query['signin']));
            echo json_encode($_SESSION);
        }
        break;
    case '/native/loop':
        $_SESSION['loop'] = ['n' => 1];
        $_SESSION['loop']['itself'] = &$_SESSION['loop'];
        break;
    case '/native/slow':
        waitForTest($namespace);
        $_SESSION['slow'] = 'written';
        echo 'done';
        break;
    case '/native/throw':
        $_SESSION['thrown'] = 1;
        echo 'never seen';
        throw new \RuntimeException('the page fails');
    case '/native/object':
        $_SESSION['when'] = new \DateTime();
        echo 'never seen';
        break;
    case '/native/badname':
        $_SESSION[$query['key'] ?? 'a b'] = 1;
        echo 'never seen';
        break;
    case '/native/twice':
        session_write_close();
        session_start();
        $_SESSION['twice'] = true;
        break;
    case '/native/flush':
        $_SESSION['before'] = 1;
        echo 'first';
        while (ob_get_level() > 0) {
            ob_end_flush();
        }
        flush();
        $_SESSION['after'] = 2;
        echo 'second';
        break;
    case '/native/abort':
        $_SESSION['aborted'] = 1;
        session_abort();
        break;
}
