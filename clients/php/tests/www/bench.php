<?php

declare(strict_types=1);

// The pages of ./bench: /phpredis/ and /locking/ use the handler of phpredis, /native/ $_SESSION on
// a manager, /coatcheck/ Manager::serve.

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Counter;
use Coatcheck\Session\Manager;
use Coatcheck\Session\Session;
use Coatcheck\Session\SessionHandler;
use Coatcheck\Session\Store;

require_once dirname(__DIR__) . '/bootstrap.php';

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
[, $kind, $what] = explode('/', "$path/");
parse_str((string) parse_url($_SERVER['REQUEST_URI'], PHP_URL_QUERY), $query);
$page = function () use ($what, $query): void {
    usleep((int) ($query['us'] ?? 0));
    match ($what) {
        'read' => $_SESSION['n'] ?? 0,
        'write', 'begin' => $_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1,
        'key' => $_SESSION["k{$query['i']}"] = 1,
        'out' => session_destroy(),
        default => null,
    };
    echo json_encode($_SESSION);
};
if ($kind === 'ping') {
    echo getenv('COATCHECK_WEB');
} elseif ($kind === 'bare') {
    echo 'pong';
} elseif ($kind === 'phpredis' || $kind === 'locking') {
    ini_set('session.save_handler', 'redis');
    ini_set('session.save_path', str_replace('redis:', 'tcp:', getenv('COATCHECK_REDIS')) . '?persistent=1');
    ini_set('redis.session.locking_enabled', $kind === 'locking' ? '1' : '0');
    ini_set('redis.session.lock_retries', '2000');
    ini_set('redis.session.lock_wait_time', '2000');
    session_start();
    $page();
} elseif ($kind === 'native') {
    $handler = SessionHandler::register(new Manager(Store::connect(getenv('COATCHECK_REDIS'))));
    session_start();
    $page();
} else {
    (new Manager(Store::connect(getenv('COATCHECK_REDIS'))))->serve(function (Session $s) use ($what): void {
        $n = new Counter('n');
        if ($what === 'write' || $what === 'begin') {
            $n->add($s);
        }
        echo json_encode(['n' => $n->get($s)]);
    });
}
