<?php

declare(strict_types=1);

// The page: counts the visitor's visits, and keeps a theme that the other services follow.

use Coatcheck\Session\Config;
use Coatcheck\Session\Counter;
use Coatcheck\Session\Manager;
use Coatcheck\Session\Session;
use Coatcheck\Session\Store;
use Coatcheck\Session\Value;

// An application uses Composer's vendor/autoload.php.
spl_autoload_register(function (string $class): void {
    require dirname(__DIR__, 3) . '/clients/php/src/' . substr($class, strlen('Coatcheck\\Session\\')) . '.php';
});

$path = $_SERVER['REQUEST_METHOD'] . ' ' . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === 'GET /page/health') {
    echo 'ok';
    return;
}
$sessions = new Manager(Store::connect(getenv('REDIS_URL')), new Config(
    keys: [hex2bin(getenv('SESSION_KEY'))],
    userKey: hex2bin(getenv('USER_KEY')),
));
$sessions->serve(function (Session $s) use ($path): void {
    $theme = new Value('page.theme');
    $visits = new Counter('page.visits');
    if ($path === 'POST /page/theme') {
        if (in_array($_POST['theme'] ?? '', ['light', 'dark'], true)) {
            $theme->set($s, $_POST['theme']);
        }
        header('Location: /page/', true, 303);
        return;
    }
    if ($s->user() !== null) { // a visitor who only looks gets no session
        $visits->add($s);
    }
    show($s->user() ?? 'nobody', $visits->get($s), $theme->get($s) ?? 'none');
});

function show(string $user, int $visits, string $theme): void
{
    $user = htmlspecialchars($user);
    echo <<<HTML
        <!doctype html>
        <html lang="en" data-theme="$theme">
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>Page</title>
        <link rel="stylesheet" href="/style.css">
        <h1>Page, in PHP</h1>
        <nav><a href="/">Start</a></nav>
        <p>You are <strong id="user">$user</strong>.</p>
        <dl>
        <dt>Visits</dt><dd id="visits">$visits</dd>
        <dt>Theme</dt><dd id="theme">$theme</dd>
        </dl>
        <form method="post" action="theme">
        <button id="light" name="theme" value="light">Light</button>
        <button id="dark" name="theme" value="dark">Dark</button>
        </form>
        </html>
        HTML;
}
